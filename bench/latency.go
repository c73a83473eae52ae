package main

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

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
		roundsMax: 3,
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

// measureLatency writes at random times while d works, and waits for the last arrival.
func (t *trial) measureLatency(ctx context.Context, l load, d drainer, write timedWriter) (sample, error) {
	all := stream{load: l, until: l.messages, rate: latencyRate, writers: latencyWriters, write: write}
	f, err := t.fly(ctx, d, []stream{all})
	if err != nil {
		return nil, err
	}
	took := make([]float64, 0, l.messages-1)
	for n := 1; n < l.messages; n++ {
		took = append(took, f.wait(n))
	}
	slices.Sort(took)
	found := sample{"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "max": took[len(took)-1]}
	if f.used.known {
		found[othersMetric] = f.used.othersPercent()
	}
	return found, nil
}
