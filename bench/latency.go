package main

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The load of the latency scenario: as many runs as a busy service ends, far below what a worker can deliver.
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
		metrics: []report.Metric{
			{Name: "p50", Title: "p50 ms", Digits: 1},
			{Name: "p99", Title: "p99 ms", Digits: 1},
			{Name: "max", Title: "max ms", Digits: 1},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "p50", Of: "wake", AtMost: 10, Unit: "ms"},
			{Metric: "p99", Of: "wake", AtMost: 40, Unit: "ms"},
			{Metric: "p99", Of: "poll", AtMost: 2 * float64(latencyPoll.Milliseconds()), Unit: "ms"},
			{Metric: "p50", Of: "wake", Against: "river"},
			{Metric: "p99", Of: "wake", Against: "river"},
		},
		roundsMax: 3,
	}
}

// latencyMessages counts one more message: the first, which shows that the contender works.
func latencyMessages(s size) int { return latencyRate*pick(s, 1, 2, 20) + 1 }

func latencyEpilogue(wake bool) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		l, err := t.NewLoad(latencyMessages(t.size), 1)
		if err != nil {
			return nil, err
		}
		h, _, err := newHook(ctx, t)
		if err != nil {
			return nil, err
		}
		config := drainConfig(t.DB.Schema)
		woken := func() {}
		if wake {
			waker, err := outbox.NewWaker(t.DB.Pool, t.DB.Schema)
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
			err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return h.OnTermination(ctx, tx, l.Outcome(n)) })
			committed = time.Now()
			woken()
			return committed, err
		})
	}
}

func latencyRiver(ctx context.Context, t *trial) (report.Sample, error) {
	l, err := t.NewLoad(latencyMessages(t.size), 1)
	if err != nil {
		return nil, err
	}
	if err := t.DB.MigrateRiver(ctx); err != nil {
		return nil, err
	}
	workers, done := webhookWorkers()
	defer done()
	d, err := t.newRiver(ctx, workers, nil)
	if err != nil {
		return nil, err
	}
	inserter, err := newRiverClient(t.DB.Pool, t.DB.Schema, workers) // its cooldown also debounces its notifies
	if err != nil {
		return nil, err
	}
	return t.measureLatency(ctx, l, d, func(ctx context.Context, c *pgxpool.Conn, n int) (time.Time, error) {
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			_, err := inserter.InsertTx(ctx, tx, webhook(l, n), nil)
			return err
		})
		return time.Now(), err
	})
}

// measureLatency writes at random times while d works, and waits for the last arrival.
func (t *trial) measureLatency(ctx context.Context, l stand.Load, d stand.Drainer, write stand.TimedWriter) (report.Sample, error) {
	all := stand.Stream{Load: l, Until: l.Messages, Rate: latencyRate, Writers: latencyWriters, Write: write}
	f, err := t.Fly(ctx, d, []stand.Stream{all})
	if err != nil {
		return nil, err
	}
	took := make([]float64, 0, l.Messages-1)
	for n := 1; n < l.Messages; n++ {
		took = append(took, f.Wait(n))
	}
	slices.Sort(took)
	found := report.Sample{"p50": report.Quantile(took, 0.5), "p99": report.Quantile(took, 0.99), "max": took[len(took)-1]}
	noteOthers(found, f.Used)
	return found, nil
}
