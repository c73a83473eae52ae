package main

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// walScenario: how much WAL a message costs from its writing to the record of its delivery. Every message is written in
// a transaction of its own.
func walScenario() scenario {
	return scenario{
		name:  "wal",
		about: "WAL per message of 256 bytes: written in a transaction of its own, and drained",
		contenders: []contender{
			{name: "epilogue", about: "this project", run: walEpilogue},
			{name: "river", about: "River, one job per webhook, tuned", run: walRiver},
		},
		metrics: []report.Metric{
			{Name: "wal", Title: "bytes/message"},
			{Name: "wal_write", Title: "written"},
			{Name: "wal_drain", Title: "drained"},
		},
		budgets: []report.Budget{
			{Metric: "wal", Of: "epilogue", AtMost: 1600, Unit: "bytes"},
			{Metric: "wal", Of: "epilogue", Against: "river"},
		},
		roundsMax: 3,
	}
}

func walMessages(s size) int { return pick(s, 500, 3_000, 50_000) }

func walEpilogue(ctx context.Context, t *trial) (report.Sample, error) {
	l, err := t.NewLoad(walMessages(t.size), 1)
	if err != nil {
		return nil, err
	}
	h, _, err := newHook(ctx, t)
	if err != nil {
		return nil, err
	}
	d, err := t.newEpilogue(ctx, drainConfig(t.DB.Schema))
	if err != nil {
		return nil, err
	}
	return t.measureWAL(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return h.OnTermination(ctx, tx, l.Outcome(n)) })
	})
}

func walRiver(ctx context.Context, t *trial) (report.Sample, error) {
	l, err := t.NewLoad(walMessages(t.size), 1)
	if err != nil {
		return nil, err
	}
	if err := t.DB.MigrateRiver(ctx); err != nil {
		return nil, err
	}
	inserter, err := newRiverClient(t.DB.Pool, t.DB.Schema, nil)
	if err != nil {
		return nil, err
	}
	workers, done := webhookWorkers()
	defer done()
	d, err := t.newRiver(ctx, workers, nil)
	if err != nil {
		return nil, err
	}
	return t.measureWAL(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			_, err := inserter.InsertTx(ctx, tx, webhook(l, n), nil)
			return err
		})
	})
}

// messageWriter commits the n-th message in a transaction of its own.
type messageWriter func(ctx context.Context, c *pgxpool.Conn, n int) error

// measureWAL settles before, so that the making of the tables is not in the figures.
func (t *trial) measureWAL(ctx context.Context, l stand.Load, d stand.Drainer, write messageWriter) (report.Sample, error) {
	if err := t.DB.Settle(ctx); err != nil {
		return nil, err
	}
	before, err := t.DB.WALPosition(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeEach(ctx, t.DB, l, write); err != nil {
		return nil, err
	}
	written, err := t.DB.WALPosition(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := t.drain(ctx, l, d); err != nil {
		return nil, err
	}
	drained, err := t.DB.WALPosition(ctx)
	if err != nil {
		return nil, err
	}
	each := func(bytes int64) float64 { return float64(bytes) / float64(l.Messages) }
	return report.Sample{"wal": each(drained - before), "wal_write": each(written - before), "wal_drain": each(drained - written)}, nil
}

// writeEach writes every message, as many at a time as the pool has connections.
func writeEach(ctx context.Context, d *stand.Database, l stand.Load, write messageWriter) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range d.Pool.Config().MaxConns {
		group.Go(func() error {
			c, err := d.Pool.Acquire(ctx)
			if err != nil {
				return err
			}
			defer c.Release()
			for n := int(next.Add(1)) - 1; n < l.Messages; n = int(next.Add(1)) - 1 {
				if err := write(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
