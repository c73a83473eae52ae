package main

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// bareInFlight is how many requests the ceiling has in flight, as in the design's figures.
const bareInFlight = 64

// drainBare posts every body and keeps no record: no outbox can be faster with the same HTTP client and receiver.
func drainBare(ctx context.Context, t *trial, size drainSize) (report.Sample, error) {
	l, err := t.NewLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	p := stand.NewPoster(bareInFlight)
	defer p.Close()
	var answered atomic.Int64
	return t.drain(ctx, l, stand.Drainer{
		Run: func(ctx context.Context) error {
			err := postAll(ctx, p, l, &answered)
			if err == nil {
				<-ctx.Done()
			}
			return err
		},
		Done: func(context.Context) (bool, error) { return answered.Load() == int64(l.Messages), nil },
	})
}

func postAll(ctx context.Context, p stand.Poster, l stand.Load, answered *atomic.Int64) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range bareInFlight {
		group.Go(func() error {
			for n := int(next.Add(1)) - 1; n < l.Messages; n = int(next.Add(1)) - 1 {
				if err := p.Post(ctx, l.URL(n), int64(n), l.Body(n)); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	return group.Wait()
}
