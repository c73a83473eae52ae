package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The large messages of the memory scenario.
const (
	largeBytes = 1 << 20                // of a body: the most that a hook writes by default
	largeSlow  = 500 * time.Millisecond // until an endpoint answers
)

// memoryOfLarge has a worker rest first, and then meet more large messages at once than it may hold.
func memoryOfLarge(ctx context.Context, t *trial) (sample, error) {
	w, small, err := t.startUponBacklog(ctx, memoryMessages(t.size))
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.end() }()
	seen := t.watchMemory(w)
	defer seen()
	if _, err := t.drainAndRest(w); err != nil {
		return nil, err
	}
	rest, _ := w.memory()
	large, err := t.newLoad(pick(t.size, 64, 128, 1_000), memoryEndpoints)
	if err != nil {
		return nil, err
	}
	if err := t.receiver.behave(Behaviour{To: memoryEndpoints, SlowPercent: 100, Slow: largeSlow}); err != nil {
		return nil, err
	}
	used, err := t.timed(func() error {
		if err := writeLarge(w.running, t.db, large); err != nil {
			return err
		}
		if _, err := t.receiver.await(w.running); err != nil {
			return err
		}
		return t.untilRecorded(w.running)
	})
	if err != nil {
		return nil, err
	}
	found := sample{"messages": float64(large.messages), "allowed": maxBytesInFlight()}
	if m, ok := w.memory(); ok {
		found["rss"], found["peak"], found["over"] = rest.resident, m.peak, m.peak-rest.resident
	}
	used.noteOthers(found)
	return found, t.checkDelivered(ctx, load{messages: small.messages + large.messages})
}

// writeLarge writes messages of largeBytes, all of which become due in one moment.
func writeLarge(ctx context.Context, d *database, l load) error {
	writer, err := outbox.NewWriter(outbox.Config{Schema: d.schema})
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		for n := range l.messages {
			m := l.message(n)
			m.Outcome.Result = l.largeBody(n)
			if _, err := writer.Insert(ctx, tx, m); err != nil {
				return fmt.Errorf("large message %d: %w", n, err)
			}
		}
		return nil
	})
}

// largeBody is the n-th message's body with white space after it, so that it stays JSON.
func (l load) largeBody(n int) []byte {
	b := bytes.Repeat([]byte{' '}, largeBytes)
	copy(b, l.body(n))
	return b
}
