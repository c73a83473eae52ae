package main

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// bareInFlight is how many requests the ceiling has under way, as in the design's figures.
const bareInFlight = 64

// drainBare posts every body and keeps no record: no outbox can be faster with the same HTTP client and receiver.
func drainBare(ctx context.Context, t *trial, size drainSize) (sample, error) {
	l, err := t.newLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	p := newPoster(bareInFlight)
	defer p.close()
	var answered atomic.Int64
	return t.drain(ctx, l, drainer{
		run: func(ctx context.Context) error {
			err := postAll(ctx, p, l, &answered)
			if err == nil {
				<-ctx.Done()
			}
			return err
		},
		done: func(context.Context) (bool, error) { return answered.Load() == int64(l.messages), nil },
	})
}

func postAll(ctx context.Context, p poster, l load, answered *atomic.Int64) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range bareInFlight {
		group.Go(func() error {
			for n := int(next.Add(1)) - 1; n < l.messages; n = int(next.Add(1)) - 1 {
				if err := p.post(ctx, l.url(n), int64(n), l.body(n)); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	return group.Wait()
}
