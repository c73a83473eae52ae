package main

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"
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
		metrics: []metric{
			{name: "wal", title: "bytes/message"},
			{name: "wal_write", title: "written"},
			{name: "wal_drain", title: "drained"},
		},
		budgets: []budget{
			{metric: "wal", of: "epilogue", atMost: 1600, unit: "bytes"},
			{metric: "wal", of: "epilogue", against: "river"},
		},
		roundsMax: 3,
	}
}

func walMessages(s size) int { return pick(s, 500, 3_000, 50_000) }

func walEpilogue(ctx context.Context, t *trial) (sample, error) {
	l, err := t.newLoad(walMessages(t.size), 1)
	if err != nil {
		return nil, err
	}
	h, _, err := newHook(ctx, t)
	if err != nil {
		return nil, err
	}
	d, err := t.newEpilogue(ctx, drainConfig(t.db.schema))
	if err != nil {
		return nil, err
	}
	return t.measureWAL(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return h.OnTermination(ctx, tx, l.outcome(n)) })
	})
}

func walRiver(ctx context.Context, t *trial) (sample, error) {
	l, err := t.newLoad(walMessages(t.size), 1)
	if err != nil {
		return nil, err
	}
	if err := t.db.migrateRiver(ctx); err != nil {
		return nil, err
	}
	inserter, err := newRiverClient(t.db.pool, t.db.schema, nil)
	if err != nil {
		return nil, err
	}
	p := newPoster(riverWorkers)
	defer p.close()
	workers := river.NewWorkers()
	river.AddWorker(workers, &webhookWorker{poster: p})
	d, err := t.newRiver(ctx, workers, nil)
	if err != nil {
		return nil, err
	}
	return t.measureWAL(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			_, err := inserter.InsertTx(ctx, tx, l.webhook(n), nil)
			return err
		})
	})
}

// messageWriter commits the n-th message in a transaction of its own.
type messageWriter func(ctx context.Context, c *pgxpool.Conn, n int) error

// measureWAL settles before, so that what made the tables is not in the figures.
func (t *trial) measureWAL(ctx context.Context, l load, d drainer, write messageWriter) (sample, error) {
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	before, err := t.db.walPosition(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeEach(ctx, t.db, l, write); err != nil {
		return nil, err
	}
	written, err := t.db.walPosition(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := t.drain(ctx, l, d); err != nil {
		return nil, err
	}
	drained, err := t.db.walPosition(ctx)
	if err != nil {
		return nil, err
	}
	each := func(bytes int64) float64 { return float64(bytes) / float64(l.messages) }
	return sample{"wal": each(drained - before), "wal_write": each(written - before), "wal_drain": each(drained - written)}, nil
}

// writeEach writes every message, sixteen at a time.
func writeEach(ctx context.Context, d *database, l load, write messageWriter) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range preparePoolMax {
		group.Go(func() error {
			c, err := d.pool.Acquire(ctx)
			if err != nil {
				return err
			}
			defer c.Release()
			for n := int(next.Add(1)) - 1; n < l.messages; n = int(next.Add(1)) - 1 {
				if err := write(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
