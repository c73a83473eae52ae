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
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The load of the latency scenario: what a busy service ends in runs, far below what a worker can deliver.
const (
	latencyRate    = 200 // messages a second, at random times
	latencyWriters = 4
	latencyPoll    = 250 * time.Millisecond // without wakes
)

// latencyScenario: how long after its commit a message is at the receiver.
func latencyScenario() scenario {
	return scenario{
		name:  "latency",
		about: "from the commit's return to the receiver's handler, at 200 messages/s",
		contenders: []contender{
			{name: "wake", about: "this project, woken after each commit", run: latencyEpilogue(true)},
			{name: "poll", about: "this project, without wakes, polling every 250 ms", run: latencyEpilogue(false)},
			{name: "river", about: "River, one job per webhook, tuned; it notifies within the transaction", run: latencyRiver},
		},
		metrics: []metric{
			{name: "p50", title: "p50 ms", digits: 1},
			{name: "p99", title: "p99 ms", digits: 1},
			{name: "max", title: "max ms", digits: 1},
			{name: othersMetric, title: "others %", digits: 1, detail: true},
		},
		budgets: []budget{
			{metric: "p50", of: "wake", atMost: 10, unit: "ms"},
			{metric: "p99", of: "wake", atMost: 40, unit: "ms"},
			{metric: "p99", of: "poll", atMost: 2 * float64(latencyPoll.Milliseconds()), unit: "ms"},
			{metric: "p50", of: "wake", against: "river"},
			{metric: "p99", of: "wake", against: "river"},
		},
	}
}

// latencyMessages counts one more for the first, which shows that the contender is at work.
func latencyMessages(s size) int { return latencyRate*pick(s, 1, 2, 20) + 1 }

func latencyEpilogue(wake bool) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		l, err := t.newLoad(latencyMessages(t.size), 1)
		if err != nil {
			return nil, err
		}
		h, _, err := newHook(ctx, t)
		if err != nil {
			return nil, err
		}
		config := drainConfig(t.db.schema)
		woken := func() {}
		if wake {
			waker, err := outbox.NewWaker(t.db.pool, t.db.schema)
			if err != nil {
				return nil, err
			}
			woken = waker.Wake
			defer func() { _ = waker.Close(ctx) }()
		} else {
			config.PollInterval = latencyPoll
		}
		d, err := t.newEpilogue(ctx, config)
		if err != nil {
			return nil, err
		}
		return t.measureLatency(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) (committed time.Time, err error) {
			err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return h.OnTermination(ctx, tx, l.outcome(n)) })
			committed = time.Now()
			woken()
			return committed, err
		})
	}
}

func latencyRiver(ctx context.Context, t *trial) (sample, error) {
	l, err := t.newLoad(latencyMessages(t.size), 1)
	if err != nil {
		return nil, err
	}
	if err := t.db.migrateRiver(ctx); err != nil {
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
	inserter, err := newRiverClient(t.db.pool, t.db.schema, workers) // its cooldown also debounces its notifies
	if err != nil {
		return nil, err
	}
	return t.measureLatency(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) (time.Time, error) {
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			_, err := inserter.InsertTx(ctx, tx, l.webhook(n), nil)
			return err
		})
		return time.Now(), err
	})
}

// timedWriter commits the n-th message in a transaction of its own and says when it had.
type timedWriter func(ctx context.Context, c *pgxpool.Conn, n int) (committed time.Time, err error)

// measureLatency writes at random times while d works, and waits for the last arrival. Both processes read the same
// machine's clock.
func (t *trial) measureLatency(ctx context.Context, l load, d drainer, write timedWriter) (sample, error) {
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- d.run(running)
	}()
	committed := make([]time.Time, l.messages)
	used, err := t.timed(func() error {
		if err := t.writeFirst(running, committed, write); err != nil {
			return err
		}
		if err := writeAtRandom(running, t.db.pool, l, committed, write); err != nil {
			return err
		}
		_, err := t.receiver.await(running)
		return err
	})
	if err == nil {
		err = untilDone(running, d.done)
	}
	stop()
	if err = errors.Join(<-ended, err); err != nil {
		return nil, err
	}
	arrived, err := t.receiver.arrivals()
	if err != nil {
		return nil, err
	}
	took := make([]float64, 0, l.messages-1)
	for n := 1; n < l.messages; n++ {
		took = append(took, float64(arrived[n]-committed[n].UnixNano())/1e6)
	}
	slices.Sort(took)
	found := sample{"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "max": took[len(took)-1]}
	if used.known {
		found[othersMetric] = used.othersPercent()
	}
	return found, nil
}

// writeFirst writes one message and waits for it, so that no contender's start is in the figures.
func (t *trial) writeFirst(ctx context.Context, committed []time.Time, write timedWriter) error {
	c, err := t.db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if committed[0], err = write(ctx, c, 0); err != nil {
		return err
	}
	return untilDone(ctx, func(context.Context) (bool, error) {
		p, err := t.receiver.progress()
		return p.Distinct > 0, err
	})
}

// writeAtRandom has each writer wait an exponential time between its messages: together they come as from many who know
// nothing of each other. A writer that is late catches up, so that what is slow cannot thin out the load.
func writeAtRandom(ctx context.Context, pool *pgxpool.Pool, l load, committed []time.Time, write timedWriter) error {
	var next atomic.Int64
	next.Store(1) // the first is written
	group, ctx := errgroup.WithContext(ctx)
	for i := range latencyWriters {
		random := rand.New(rand.NewPCG(uint64(l.trial), uint64(i)))
		group.Go(func() error {
			c, err := pool.Acquire(ctx)
			if err != nil {
				return err
			}
			defer c.Release()
			at := time.Now()
			for n := int(next.Add(1)) - 1; n < l.messages; n = int(next.Add(1)) - 1 {
				at = at.Add(time.Duration(random.ExpFloat64() * float64(time.Second) * latencyWriters / latencyRate))
				time.Sleep(time.Until(at)) // the load is paced: this is the time between two messages
				if committed[n], err = write(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
