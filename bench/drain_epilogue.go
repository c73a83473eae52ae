package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// workerConns is the size of the worker's pool.
const workerConns = 16

// drainEpilogue drains with this project's worker, set through nothing but its configuration.
func drainEpilogue(ctx context.Context, t *trial, size drainSize) (sample, error) {
	if err := t.db.migrateOutbox(ctx); err != nil {
		return nil, err
	}
	l, err := t.newLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	if err := writeOutboxBulk(ctx, t.db, l, 0, l.messages); err != nil {
		return nil, err
	}
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	d, err := t.newEpilogue(ctx, drainConfig(t.db.schema))
	if err != nil {
		return nil, err
	}
	found, err := t.drain(ctx, l, d)
	if err != nil {
		return nil, err
	}
	return found, t.checkDelivered(ctx, l)
}

// drainConfig is what an operator would set for a machine whose receivers are near and quick.
func drainConfig(schema string) worker.Config {
	return worker.Config{
		Schema: schema, AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		MaxInFlight: 512, EndpointMaxInFlight: 384, Logger: quiet(),
	}
}

// newEpilogue makes a worker with a pool of its own.
func (t *trial) newEpilogue(ctx context.Context, config worker.Config) (drainer, error) {
	pool, err := t.db.newPool(ctx, workerConns)
	if err != nil {
		return drainer{}, err
	}
	w, err := worker.New(pool, config)
	if err != nil {
		return drainer{}, err
	}
	return drainer{
		run: w.Run,
		done: func(ctx context.Context) (bool, error) {
			return one[bool](ctx, t.db, "SELECT NOT EXISTS (SELECT FROM bench.due)")
		},
	}, nil
}

// checkDelivered makes sure that a rate is one of messages that were delivered, each by one attempt.
func (t *trial) checkDelivered(ctx context.Context, l load) error {
	n, err := one[int](ctx, t.db, "SELECT count(*) FROM bench.attempt WHERE class = 'delivered'")
	if err == nil && n != l.messages {
		err = fmt.Errorf("%d attempts are recorded as delivered; want %d", n, l.messages)
	}
	return err
}

// message returns the n-th message as this project's writers take it.
func (l load) message(n int) outbox.Message {
	return outbox.Message{
		Outcome: outbox.RunOutcome{RunID: runID(n), Status: outbox.Succeeded, Result: l.body(n), FinalStep: 3},
		URL:     l.url(n),
	}
}
