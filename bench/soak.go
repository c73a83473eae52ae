package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The soak's load. Every endpoint fails and is slow alike, at random, so that none fails often enough in a row to be
// opened. What failed is tried again by the default schedule, after 5 s, 5 min and so on: until then it is retrying, and
// not backlog.
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
		metrics: []metric{
			{name: "rate", title: "messages/s"},
			{name: "capacity", title: "capacity/s"},
			{name: "p50", title: "p50 ms", digits: 1},
			{name: "p99", title: "p99 ms", digits: 1},
			{name: "backlog", title: "backlog", digits: 1},
			{name: "backlog_growth", title: "backlog last/first", digits: 2},
			{name: "p99_growth", title: "p99 last/first", digits: 2},
			{name: "rss_growth", title: "memory last/first", digits: 2},
			{name: "dead_growth", title: "dead rows last/first", digits: 2},
			{name: "cpu_sender", title: "sender µs", digits: 1, detail: true},
			{name: "cpu_postgres", title: "Postgres µs", digits: 1, detail: true},
			{name: "cpu_receiver", title: "receiver µs", digits: 1, detail: true},
			{name: othersMetric, title: "others %", digits: 1, detail: true},
		},
		budgets: []budget{
			{metric: "backlog_growth", of: "epilogue", atMost: 1.5, unit: "times"},
			{metric: "p99_growth", of: "epilogue", atMost: 1.2, unit: "times"},
			{metric: "rss_growth", of: "epilogue", atMost: 1.2, unit: "times"},
			{metric: "dead_growth", of: "epilogue", atMost: 1.5, unit: "times"},
		},
		charts:    soakCharts(),
		roundsMax: 1, noWarmUp: true,
	}
}

func soakCharts() []chart {
	over := func(curve, title, yTitle string) chart {
		return chart{title: "soak: " + title, xTitle: "seconds", yTitle: yTitle, curve: curve}
	}
	return []chart{
		over("backlog", "due and not claimed", "messages"),
		over("p99", "commit to first request", "p99 ms"),
		over("delivered", "deliveries", "messages/s"),
		over("rss", "memory of the worker", "resident MiB"),
		over("dead", "dead rows of the table due", "rows"),
		over("indexes", "indexes of the table due", "MiB"),
	}
}

func soakSeconds(s size) int { return pick(s, 1, 5, 600) }

// soak is what its two parts share.
type soak struct {
	*trial

	pool  *pgxpool.Pool // the writers'
	hook  *hook.WebhookTerminalHook
	waker *outbox.Waker
}

// runSoak measures the capacity, clears the tables, and then works at a share of it.
func runSoak(ctx context.Context, t *trial) (found sample, err error) {
	s := soak{trial: t}
	if s.hook, _, err = newHook(ctx, t); err != nil {
		return nil, err
	}
	if s.waker, err = outbox.NewWaker(t.db.pool, t.db.schema); err != nil {
		return nil, err
	}
	defer func() { _ = s.waker.Close(ctx) }()
	if s.pool, err = t.db.newPool(ctx, soakWriters); err != nil {
		return nil, err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return nil, fmt.Errorf("measuring the capacity: %w", err)
	}
	say("%s: the capacity is %.0f messages/s", t.name, capacity)
	if err := t.db.exec(ctx, "TRUNCATE bench.message, bench.due, bench.attempt, bench.dead, bench.endpoint"); err != nil {
		return nil, err
	}
	return s.endure(ctx, capacity)
}

// begin tells the receiver what comes and how to answer, and starts a worker.
func (s soak) begin(ctx context.Context, messages int) (l load, w *workerProcess, err error) {
	if l, err = s.newLoad(messages, soakEndpoints); err != nil {
		return l, nil, err
	}
	err = s.receiver.behave(Behaviour{
		To: soakEndpoints, FailPercent: soakFailPercent, SlowPercent: soakSlowPercent, Slow: soakSlow,
	})
	if err != nil {
		return l, nil, err
	}
	if err := s.db.settle(ctx); err != nil {
		return l, nil, err
	}
	w, err = s.startWorker(ctx)
	return l, w, err
}

// writer commits one message through the hook, and wakes the worker.
func (s soak) writer(l load) timedWriter {
	return func(ctx context.Context, c *pgxpool.Conn, n int) (time.Time, error) {
		var b pgx.Batch // which is a transaction
		if _, err := s.hook.Queue(ctx, &b, l.outcome(n)); err != nil {
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

// endpoints are the load's, as the table due names them.
func (l load) endpoints() ([]string, error) {
	var names []string
	for _, url := range l.urls {
		name, err := outbox.CheckURL(url)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
