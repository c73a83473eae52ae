package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// stream is new messages that come at random times, as from many who know nothing of each other.
type stream struct {
	load

	from, until int // the messages' numbers; the latter is exclusive
	rate        int // messages a second
	writers     int // connections that they come over
	write       timedWriter
}

// timedWriter commits the n-th message in a transaction of its own and says when it had.
type timedWriter func(ctx context.Context, c *pgxpool.Conn, n int) (committed time.Time, err error)

// fairWriter returns what commits the messages of a load as a service would, each in one round trip and with a wake after
// it. closed ends the wakes.
func (t *trial) fairWriter(ctx context.Context, l load) (write timedWriter, closed func(), err error) {
	w, err := outbox.NewWriter(outbox.Config{Schema: t.db.schema})
	if err != nil {
		return nil, nil, err
	}
	waker, err := outbox.NewWaker(t.db.pool, t.db.schema)
	if err != nil {
		return nil, nil, err
	}
	write = func(ctx context.Context, c *pgxpool.Conn, n int) (time.Time, error) {
		var b pgx.Batch // a batch is a transaction
		if _, err := w.Queue(&b, l.message(n)); err != nil {
			return time.Time{}, err
		}
		err := c.SendBatch(ctx, &b).Close()
		committed := time.Now()
		waker.Wake()
		return committed, err
	}
	return write, func() { _ = waker.Close(ctx) }, nil
}

// flown is when messages were committed here and arrived there, by their number. Both processes read the same machine's
// clock.
type flown struct {
	begun     time.Time // all streams
	committed []time.Time
	arrived   []int64 // Unix time in nanoseconds, 0 for what did not arrive
	used      cpuUse
}

// wait is how long a message took from its commit to the receiver, in milliseconds.
func (f flown) wait(n int) float64 { return float64(f.arrived[n]-f.committed[n].UnixNano()) / 1e6 }

// fly writes the streams at once while d works, and waits for what the receiver awaits. The first message of the first
// stream is written before them, and waited for, so that no contender's start is in the figures. What is to go on beside
// them runs until its context ends.
func (t *trial) fly(ctx context.Context, d drainer, streams []stream, beside ...func(context.Context) error) (f flown, err error) {
	if err := t.db.settle(ctx); err != nil {
		return f, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop() // a drainer that gives up ends the waiting for it
		ended <- d.run(running)
	}()
	for _, s := range streams {
		f.committed = append(f.committed, make([]time.Time, max(s.until-len(f.committed), 0))...)
	}
	streams = slices.Clone(streams)
	if err = t.writeFirst(running, streams[0], f.committed); err == nil {
		streams[0].from++
		f.used, err = t.timed(func() error {
			f.begun = time.Now()
			return t.writeStreams(running, streams, f.committed, beside)
		})
	}
	if err == nil {
		err = untilDone(running, d.done)
	}
	stop()
	if err = errors.Join(<-ended, err); err != nil {
		return f, err
	}
	f.arrived, err = t.receiver.arrivals()
	return f, err
}

// writeFirst writes one message and waits for it.
func (t *trial) writeFirst(ctx context.Context, s stream, committed []time.Time) error {
	c, err := t.db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if committed[s.from], err = s.write(ctx, c, s.from); err != nil {
		return err
	}
	return untilDone(ctx, func(context.Context) (bool, error) {
		p, err := t.receiver.progress()
		return p.Distinct > 0, err
	})
}

// writeStreams writes the streams, waits until their messages arrived, and ends what goes on beside.
func (t *trial) writeStreams(ctx context.Context, streams []stream, committed []time.Time, beside []func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	besides, over := context.WithCancel(ctx)
	for _, run := range beside {
		group.Go(func() error { return run(besides) })
	}
	group.Go(func() error {
		defer over()
		writing, writingCtx := errgroup.WithContext(ctx)
		for _, s := range streams {
			writing.Go(func() error { return s.writeAtRandom(writingCtx, t.db.pool, committed) })
		}
		if err := writing.Wait(); err != nil {
			return err
		}
		_, err := t.receiver.await(ctx)
		return err
	})
	return group.Wait()
}

// writeAtRandom has each writer wait an exponential time between its messages. A writer that is late catches up, so that
// what is slow cannot thin out the load.
func (s stream) writeAtRandom(ctx context.Context, pool *pgxpool.Pool, committed []time.Time) error {
	var next atomic.Int64
	next.Store(int64(s.from))
	pause := float64(time.Second) * float64(s.writers) / float64(s.rate)
	group, ctx := errgroup.WithContext(ctx)
	for i := range s.writers {
		random := rand.New(rand.NewPCG(uint64(s.trial), uint64(s.from+i)))
		group.Go(func() error {
			c, err := pool.Acquire(ctx)
			if err != nil {
				return err
			}
			defer c.Release()
			at := time.Now()
			for n := int(next.Add(1)) - 1; n < s.until; n = int(next.Add(1)) - 1 {
				at = at.Add(time.Duration(random.ExpFloat64() * pause))
				time.Sleep(time.Until(at)) // the load is paced: this is the time between two messages
				if committed[n], err = s.write(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
