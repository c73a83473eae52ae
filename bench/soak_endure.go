package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// endured is the result of a soak.
type endured struct {
	begun, ended time.Time   // of the writing
	committed    []time.Time // by the message's number
	arrived      []int64     // Unix time in nanoseconds; 0 for what is still to be tried again
	failedFirst  []bool      // the first request was answered 500
	seen         []soakLook
}

// endure works at a share of the capacity, and looks once a second.
func (s soak) endure(ctx context.Context, capacity float64) (report.Sample, error) {
	rate := max(int(soakShare*capacity), 1)
	l, w, err := s.begin(ctx, rate*soakSeconds(s.size))
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.End() }()
	watch, err := s.watch(ctx, l, w)
	if err != nil {
		return nil, err
	}
	defer watch.stop()
	e := endured{committed: make([]time.Time, l.Messages)}
	used, err := s.Timed(func() error {
		all := stand.Stream{Load: l, Until: l.Messages, Rate: rate, Writers: soakWriters, Write: s.writer(l)}
		e.begun = time.Now()
		err := all.WriteAtRandom(w.Running, s.pool, e.committed)
		e.ended = time.Now()
		return err
	})
	e.seen = watch.stop()
	if err = errors.Join(err, watch.err); err != nil {
		return nil, err
	}
	if err := s.untilTried(w.Running); err != nil {
		return nil, err
	}
	if err := w.Stop(workerStopMax); err != nil {
		return nil, err
	}
	if e.arrived, err = s.Receiver.Arrivals(); err != nil {
		return nil, err
	}
	if e.failedFirst, err = s.firstFailures(ctx, l); err != nil {
		return nil, err
	}
	if err := s.checkEndured(ctx, e); err != nil {
		return nil, err
	}
	found := perMessage(used, l.Messages)
	found["capacity"] = capacity
	e.judge(s.size, found)
	e.draw(s.trial)
	return found, nil
}

// untilTried returns when each message's first request has its answer on record.
func (s soak) untilTried(ctx context.Context) error {
	return stand.UntilDone(ctx, func(ctx context.Context) (bool, error) {
		return stand.One[bool](ctx, s.DB, `SELECT NOT EXISTS (
    SELECT FROM bench.due WHERE attempt = 0 OR attempt = 1 AND locked_by IS NOT NULL)`)
	})
}

// firstFailures returns, by number, whether a message's first request failed.
func (s soak) firstFailures(ctx context.Context, l stand.Load) ([]bool, error) {
	rows, err := s.DB.Pool.Query(ctx, s.DB.In(`SELECT m.run_id FROM bench.attempt a JOIN bench.message m ON m.id = a.message_id
WHERE a.attempt = 1 AND a.class <> 'delivered'`))
	if err != nil {
		return nil, err
	}
	failed := make([]bool, l.Messages)
	var run string
	_, err = pgx.ForEachRow(rows, []any{&run}, func() error {
		n, err := stand.NumberOf(run, l.Messages)
		if err != nil {
			return err
		}
		failed[n] = true
		return nil
	})
	return failed, err
}

// checkEndured makes sure that every message arrived or is still to be tried again.
func (s soak) checkEndured(ctx context.Context, e endured) error {
	arrived := 0
	for n, at := range e.arrived {
		if at != 0 {
			arrived++
		} else if !e.failedFirst[n] {
			return fmt.Errorf("message %d did not arrive, and no failure of its first request is on record", n)
		}
	}
	due, err := stand.One[int](ctx, s.DB, "SELECT count(*) FROM bench.due")
	if err != nil {
		return err
	}
	if arrived+due != len(e.arrived) {
		return fmt.Errorf("%d messages arrived and %d are to be tried again; %d were written", arrived, due, len(e.arrived))
	}
	return nil
}
