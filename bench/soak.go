package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The soak's load. All endpoints fail and are slow at random, with the same shares, so that none fails often enough in a row to
// open its circuit breaker. What failed is tried again by the default schedule, after 5 s, 5 min and so on: until then it counts as
// retrying, and not as backlog.
const (
	soakEndpoints   = 50
	soakWriters     = 16
	soakShare       = 0.7 // of the capacity
	soakFailPercent = 20
	soakSlowPercent = 10
	soakSlow        = 200 * time.Millisecond
)

// soakScenario: what changes in ten minutes of steady work.
func soakScenario() scenario {
	return scenario{
		name: "soak",
		about: fmt.Sprintf("a worker process at %.0f %% of its capacity; %d %% of the requests fail, %d %% are answered after %v",
			soakShare*100, soakFailPercent, soakSlowPercent, soakSlow),
		contenders: []contender{{name: "epilogue", about: "this project", run: runSoak}},
		metrics: []report.Metric{
			{Name: "rate", Title: "messages/s"},
			{Name: "capacity", Title: "capacity/s"},
			{Name: "p50", Title: "p50 ms", Digits: 1},
			{Name: "p99", Title: "p99 ms", Digits: 1},
			{Name: "backlog", Title: "backlog", Digits: 1},
			{Name: "backlog_growth", Title: "backlog last/first", Digits: 2},
			{Name: "p99_growth", Title: "p99 last/first", Digits: 2},
			{Name: "rss_growth", Title: "memory last/first", Digits: 2},
			{Name: "dead_growth", Title: "dead rows last/first", Digits: 2},
			{Name: "cpu_sender", Title: "sender µs", Digits: 1, Detail: true},
			{Name: "cpu_postgres", Title: "Postgres µs", Digits: 1, Detail: true},
			{Name: "cpu_receiver", Title: "receiver µs", Digits: 1, Detail: true},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "backlog_growth", Of: "epilogue", AtMost: 1.5, Unit: "times"},
			{Metric: "p99_growth", Of: "epilogue", AtMost: 1.2, Unit: "times"},
			{Metric: "rss_growth", Of: "epilogue", AtMost: 1.2, Unit: "times"},
			{Metric: "dead_growth", Of: "epilogue", AtMost: 1.5, Unit: "times"},
		},
		charts:    soakCharts(),
		roundsMax: 1, noWarmUp: true,
	}
}

func soakCharts() []report.Chart {
	over := func(curve, title, yTitle string) report.Chart {
		return report.Chart{Title: "soak: " + title, XTitle: "seconds", YTitle: yTitle, Curve: curve}
	}
	return []report.Chart{
		over("backlog", "due and not claimed", "messages"),
		over("p99", "commit to first request", "p99 ms"),
		over("delivered", "deliveries", "messages/s"),
		over("rss", "memory of the worker", "resident MiB"),
		over("dead", "dead rows of the table due", "rows"),
		over("indexes", "indexes of the table due", "MiB"),
	}
}

func soakSeconds(s size) int { return pick(s, 1, 5, 600) }

// soak is what the two parts of the scenario share.
type soak struct {
	*trial

	pool  *pgxpool.Pool // the writers'
	hook  *hook.WebhookTerminalHook
	waker *outbox.Waker
}

// runSoak measures the capacity, clears the tables, and then works at a share of it.
func runSoak(ctx context.Context, t *trial) (found report.Sample, err error) {
	s := soak{trial: t}
	if s.hook, _, err = newHook(ctx, t); err != nil {
		return nil, err
	}
	if s.waker, err = outbox.NewWaker(t.DB.Pool, t.DB.Schema); err != nil {
		return nil, err
	}
	defer func() { _ = s.waker.Close(ctx) }()
	if s.pool, err = t.DB.NewPool(ctx, soakWriters); err != nil {
		return nil, err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return nil, fmt.Errorf("measuring the capacity: %w", err)
	}
	say("%s: the capacity is %.0f messages/s", t.Name, capacity)
	if err := t.DB.Exec(ctx, "TRUNCATE bench.message, bench.due, bench.attempt, bench.dead, bench.endpoint"); err != nil {
		return nil, err
	}
	return s.endure(ctx, capacity)
}

// begin tells the receiver what comes and how to answer, and starts a worker.
func (s soak) begin(ctx context.Context, messages int) (l stand.Load, w *stand.WorkerProcess, err error) {
	if l, err = s.NewLoad(messages, soakEndpoints); err != nil {
		return l, nil, err
	}
	err = s.Receiver.Behave(stand.Behaviour{
		To: soakEndpoints, FailPercent: soakFailPercent, SlowPercent: soakSlowPercent, Slow: soakSlow,
	})
	if err != nil {
		return l, nil, err
	}
	if err := s.DB.Settle(ctx); err != nil {
		return l, nil, err
	}
	w, err = s.StartWorker(ctx)
	return l, w, err
}

// writer commits one message through the hook, and wakes the worker.
func (s soak) writer(l stand.Load) stand.TimedWriter {
	return func(ctx context.Context, c *pgxpool.Conn, n int) (time.Time, error) {
		var b pgx.Batch // which is a transaction
		if _, err := s.hook.Queue(ctx, &b, l.Outcome(n)); err != nil {
			return time.Time{}, err
		}
		err := c.SendBatch(ctx, &b).Close()
		committed := time.Now()
		s.waker.Wake()
		return committed, err
	}
}

// backlogSQL counts what is due and nobody has claimed: a short range of the index for each endpoint, while it is small.
const backlogSQL = `SELECT coalesce(sum(d.n), 0)::bigint FROM unnest($1::text[]) AS e (endpoint) CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM bench.due d
        WHERE d.endpoint = e.endpoint AND d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now())
        ORDER BY d.due_at LIMIT 10000
    ) d
) d`
