package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// workerConns is the size of the worker's pool.
const workerConns = 16

// drainWith drains with a worker of this project's, which is changed only by its configuration.
func drainWith(ctx context.Context, t *trial, size drainSize, config worker.Config) (report.Sample, error) {
	if err := t.DB.MigrateOutbox(ctx); err != nil {
		return nil, err
	}
	l, err := t.NewLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	if err := stand.WriteBacklog(ctx, t.DB, l, 0, l.Messages); err != nil {
		return nil, err
	}
	if err := t.DB.Settle(ctx); err != nil {
		return nil, err
	}
	d, err := t.newEpilogue(ctx, config)
	if err != nil {
		return nil, err
	}
	found, err := t.drain(ctx, l, d)
	if err != nil {
		return nil, err
	}
	return found, t.checkDelivered(ctx, l)
}

// drainConfig is the default configuration, except that it allows sending to the receiver.
func drainConfig(schema string) worker.Config {
	return worker.Config{
		Schema: schema, AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Logger: stand.Quiet(),
	}.WithDefaults()
}

// newEpilogue makes a worker with a pool of its own.
func (t *trial) newEpilogue(ctx context.Context, config worker.Config) (stand.Drainer, error) {
	pool, err := t.DB.NewPool(ctx, workerConns)
	if err != nil {
		return stand.Drainer{}, err
	}
	w, err := worker.New(pool, config)
	if err != nil {
		return stand.Drainer{}, err
	}
	return stand.Drainer{
		Run: w.Run,
		Done: func(ctx context.Context) (bool, error) {
			return stand.One[bool](ctx, t.DB, "SELECT NOT EXISTS (SELECT FROM bench.due)")
		},
	}, nil
}

// checkDelivered makes sure that a rate is one of messages that were delivered, each by one attempt.
func (t *trial) checkDelivered(ctx context.Context, l stand.Load) error {
	n, err := stand.One[int](ctx, t.DB, "SELECT count(*) FROM bench.attempt WHERE class = 'delivered'")
	if err == nil && n != l.Messages {
		err = fmt.Errorf("%d attempts are recorded as delivered; want %d", n, l.Messages)
	}
	return err
}
