package stand

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

// Stream is new messages that come at random times, as from many independent senders.
type Stream struct {
	Load

	From, Until int // the messages' numbers; the latter is exclusive
	Rate        int // messages a second
	Writers     int // connections that they come over
	Write       TimedWriter
}

// TimedWriter commits the n-th message in a transaction of its own and says when it had.
type TimedWriter func(ctx context.Context, c *pgxpool.Conn, n int) (committed time.Time, err error)

// FairWriter returns what commits the messages of a load as a service would, each in one round trip and with a wake after
// it. closed ends the wakes.
func (t *Trial) FairWriter(ctx context.Context, l Load) (write TimedWriter, closed func(), err error) {
	w, err := outbox.NewWriter(outbox.Config{Schema: t.DB.Schema})
	if err != nil {
		return nil, nil, err
	}
	waker, err := outbox.NewWaker(t.DB.Pool, t.DB.Schema)
	if err != nil {
		return nil, nil, err
	}
	write = func(ctx context.Context, c *pgxpool.Conn, n int) (time.Time, error) {
		var b pgx.Batch // a batch is a transaction
		if _, err := w.Queue(&b, l.Message(n)); err != nil {
			return time.Time{}, err
		}
		err := c.SendBatch(ctx, &b).Close()
		committed := time.Now()
		waker.Wake()
		return committed, err
	}
	return write, func() { _ = waker.Close(ctx) }, nil
}

// Flown is when messages were committed here and arrived there, by their number. Both processes read the clock of the same
// machine.
type Flown struct {
	Begun     time.Time // all streams
	Committed []time.Time
	Arrived   []int64 // Unix time in nanoseconds, 0 for what did not arrive
	Used      CPUUse
}

// Wait is how long a message took from its commit to the receiver, in milliseconds.
func (f Flown) Wait(n int) float64 { return float64(f.Arrived[n]-f.Committed[n].UnixNano()) / 1e6 }

// Fly writes the streams at the same time while d works, and waits for what the receiver awaits. The first message of the first
// stream is written before, and waited for, so that no contender's start is in the figures. beside runs next to the streams
// until its context ends.
func (t *Trial) Fly(ctx context.Context, d Drainer, streams []Stream, beside ...func(context.Context) error) (f Flown, err error) {
	if err := t.DB.Settle(ctx); err != nil {
		return f, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop() // a drainer that gives up ends the waiting for it
		ended <- d.Run(running)
	}()
	for _, s := range streams {
		f.Committed = append(f.Committed, make([]time.Time, max(s.Until-len(f.Committed), 0))...)
	}
	streams = slices.Clone(streams)
	if err = t.writeFirst(running, streams[0], f.Committed); err == nil {
		streams[0].From++
		f.Used, err = t.Timed(func() error {
			f.Begun = time.Now()
			return t.writeStreams(running, streams, f.Committed, beside)
		})
	}
	if err == nil {
		err = UntilDone(running, d.Done)
	}
	stop()
	if err = errors.Join(<-ended, err); err != nil {
		return f, err
	}
	f.Arrived, err = t.Receiver.Arrivals()
	return f, err
}

// writeFirst writes one message and waits for it.
func (t *Trial) writeFirst(ctx context.Context, s Stream, committed []time.Time) error {
	c, err := t.DB.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if committed[s.From], err = s.Write(ctx, c, s.From); err != nil {
		return err
	}
	return UntilDone(ctx, func(context.Context) (bool, error) {
		p, err := t.Receiver.Progress()
		return p.Distinct > 0, err
	})
}

// writeStreams writes the streams, waits until their messages arrived, and ends what goes on beside.
func (t *Trial) writeStreams(ctx context.Context, streams []Stream, committed []time.Time, beside []func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	besides, over := context.WithCancel(ctx)
	for _, run := range beside {
		group.Go(func() error { return run(besides) })
	}
	group.Go(func() error {
		defer over()
		writing, writingCtx := errgroup.WithContext(ctx)
		for _, s := range streams {
			writing.Go(func() error { return s.WriteAtRandom(writingCtx, t.DB.Pool, committed) })
		}
		if err := writing.Wait(); err != nil {
			return err
		}
		_, err := t.Receiver.Await(ctx)
		return err
	})
	return group.Wait()
}

// WriteAtRandom makes each writer wait an exponential time between its messages. A writer that is late catches up, so that
// a slow contender cannot reduce the load.
func (s Stream) WriteAtRandom(ctx context.Context, pool *pgxpool.Pool, committed []time.Time) error {
	var next atomic.Int64
	next.Store(int64(s.From))
	pause := float64(time.Second) * float64(s.Writers) / float64(s.Rate)
	group, ctx := errgroup.WithContext(ctx)
	for i := range s.Writers {
		random := rand.New(rand.NewPCG(uint64(s.Trial), uint64(s.From+i)))
		group.Go(func() error {
			c, err := pool.Acquire(ctx)
			if err != nil {
				return err
			}
			defer c.Release()
			at := time.Now()
			for n := int(next.Add(1)) - 1; n < s.Until; n = int(next.Add(1)) - 1 {
				at = at.Add(time.Duration(random.ExpFloat64() * pause))
				time.Sleep(time.Until(at)) // the load is paced: this is the time between two messages
				if committed[n], err = s.Write(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
