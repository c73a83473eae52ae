package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

const (
	capacityBacklog = 1_000  // the writers pause above it
	capacityLimit   = 50_000 // messages a second that there is room for in a trial's load
	capacityLook    = 10 * time.Millisecond
)

// capacity is how many messages a second can be written and delivered at the same time, without an end. The
// same writers write as fast as they can, but pause while more than capacityBacklog messages are due and unclaimed. What
// is written then, less the growth of the backlog, was sent. The same endpoints fail and are slow in the same way. The
// count begins after the first retries, which are a part of the work; those after the second wait, 5 min, would add
// 4 % to the requests.
func (s soak) capacity(ctx context.Context) (perSecond float64, err error) {
	before, lasts := pick(s.size, 500*time.Millisecond, 500*time.Millisecond, 8*time.Second), pick(s.size, time.Second, 2*time.Second, 20*time.Second)
	l, w, err := s.begin(ctx, capacityLimit*int((before+lasts)/time.Second+1))
	if err != nil {
		return 0, err
	}
	defer func() { _ = w.End() }()
	endpoints, err := l.Endpoints()
	if err != nil {
		return 0, err
	}
	c := &closedLoop{soak: s, load: l, endpoints: endpoints}
	running, over := context.WithCancel(w.Running)
	defer over()
	group, writing := errgroup.WithContext(running)
	for range soakWriters {
		group.Go(func() error { return c.write(writing) })
	}
	group.Go(func() error { return c.look(writing) })
	var first, last progressMark
	group.Go(func() error {
		defer over()
		if err := pause(writing, before); err != nil {
			return err
		}
		first = c.mark()
		err := pause(writing, lasts)
		last = c.mark()
		return err
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := w.Stop(workerStopMax); err != nil {
		return 0, err
	}
	sent := (last.written - first.written) - (last.backlog - first.backlog)
	if sent <= 0 {
		return 0, fmt.Errorf("%d messages were written and the backlog grew from %d to %d: nothing was sent",
			last.written-first.written, first.backlog, last.backlog)
	}
	return float64(sent) / last.at.Sub(first.at).Seconds(), nil
}

// workerStopMax is longer than the worker's own default, and than what its last steps may take.
const workerStopMax = 45 * time.Second

// closedLoop is writers that adapt to the backlog.
type closedLoop struct {
	soak

	load      stand.Load
	endpoints []string
	next      atomic.Int64
	written   atomic.Int64
	backlog   atomic.Int64 // as it was last seen
}

// progressMark is how far a closed loop was.
type progressMark struct {
	at               time.Time
	written, backlog int64
}

func (c *closedLoop) mark() progressMark {
	return progressMark{time.Now(), c.written.Load(), c.backlog.Load()}
}

// write writes until ctx ends.
func (c *closedLoop) write(ctx context.Context) error {
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer conn.Release()
	write := c.writer(c.load)
	for ctx.Err() == nil {
		if c.backlog.Load() > capacityBacklog {
			_ = pause(ctx, capacityLook/2)
			continue
		}
		n := int(c.next.Add(1)) - 1
		if n >= c.load.Messages {
			return fmt.Errorf("more than %d messages a second were written; raise capacityLimit", capacityLimit)
		}
		if _, err := write(ctx, conn, n); err != nil {
			return unlessOver(ctx, err)
		}
		c.written.Add(1)
	}
	return nil
}

// look keeps the backlog up to date until ctx ends.
func (c *closedLoop) look(ctx context.Context) error {
	for pause(ctx, capacityLook) == nil {
		n, err := stand.One[int64](ctx, c.DB, backlogSQL, c.endpoints)
		if err != nil {
			return unlessOver(ctx, err)
		}
		c.backlog.Store(n)
	}
	return nil
}

// unlessOver drops an error that is only the end of ctx.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil
	}
	return err
}
