package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The large messages of the memory scenario.
const (
	largeBytes = 1 << 20                // of a body: the most that a hook writes by default
	largeSlow  = 500 * time.Millisecond // until an endpoint answers
)

// memoryOfLarge lets a worker rest first, and then gives it more large messages at once than it may hold.
func memoryOfLarge(ctx context.Context, t *trial) (report.Sample, error) {
	w, small, err := t.startUponBacklog(ctx, memoryMessages(t.size))
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.End() }()
	seen := t.watchMemory(w)
	defer seen()
	if _, err := t.drainAndRest(w); err != nil {
		return nil, err
	}
	rest, _ := w.Memory()
	large, err := t.NewLoad(pick(t.size, 64, 128, 1_000), memoryEndpoints)
	if err != nil {
		return nil, err
	}
	if err := t.Receiver.Behave(stand.Behaviour{To: memoryEndpoints, SlowPercent: 100, Slow: largeSlow}); err != nil {
		return nil, err
	}
	used, err := t.Timed(func() error {
		if err := writeLarge(w.Running, t.DB, large); err != nil {
			return err
		}
		if _, err := t.Receiver.Await(w.Running); err != nil {
			return err
		}
		return t.untilRecorded(w.Running)
	})
	if err != nil {
		return nil, err
	}
	found := report.Sample{"messages": float64(large.Messages), "allowed": maxBytesInFlight()}
	if m, ok := w.Memory(); ok {
		found["rss"], found["peak"], found["over"] = rest.Resident, m.Peak, m.Peak-rest.Resident
	}
	noteOthers(found, used)
	return found, t.checkDelivered(ctx, stand.Load{Messages: small.Messages + large.Messages})
}

// writeLarge writes messages of largeBytes that all become due at the same moment.
func writeLarge(ctx context.Context, d *stand.Database, l stand.Load) error {
	writer, err := outbox.NewWriter(outbox.Config{Schema: d.Schema})
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, d.Pool, func(tx pgx.Tx) error {
		for n := range l.Messages {
			m := l.Message(n)
			m.Outcome.Result = largeBody(l, n)
			if _, err := writer.Insert(ctx, tx, m); err != nil {
				return fmt.Errorf("large message %d: %w", n, err)
			}
		}
		return nil
	})
}

// largeBody is the n-th message's body with white space after it, so that it stays JSON.
func largeBody(l stand.Load, n int) []byte {
	b := bytes.Repeat([]byte{' '}, largeBytes)
	copy(b, l.Body(n))
	return b
}
