package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// pinnedScenario: whether a drain keeps its pace while another session keeps every row version alive that it makes, as a
// dump or a forgotten transaction does.
func pinnedScenario() scenario {
	const endpoints = 100
	return scenario{
		name:  "pinned",
		about: "a drain while another session holds the MVCC horizon, so that no dead row can go",
		contenders: []contender{
			{name: "unpinned", about: "this project, one endpoint", run: drainLong(1, drainEpilogue)},
			{name: "pinned", about: "the same while the horizon is pinned", run: pinned(drainLong(1, drainEpilogue))},
			{name: "pinned-100", about: "the same with 100 endpoints", run: pinned(drainLong(endpoints, drainEpilogue))},
			{
				name: "river-pinned", about: "River, one job per webhook, tuned, while the horizon is pinned; a fifth of the messages",
				run: pinned(drainLongRiver),
			},
		},
		metrics: pinnedMetrics(),
		budgets: []budget{
			{metric: "rate", of: "pinned", against: "unpinned", atLeast: 0.9},
			{metric: "flat", of: "pinned", atLeast: 0.9},
			{metric: "flat", of: "pinned-100"},
			{metric: "flat", of: "river-pinned"},
		},
		charts: []chart{{
			title: "Deliveries while the MVCC horizon is pinned", xTitle: "seconds since the first delivery", yTitle: "messages/s",
			curve: rateCurve,
		}},
		roundsMax: 2,
	}
}

func pinnedMetrics() []metric {
	return []metric{
		{name: "rate", title: "messages/s"},
		{name: "flat", title: "last/first", digits: 2},
		{name: "cpu_sender", title: "sender µs", digits: 1, detail: true},
		{name: "cpu_postgres", title: "Postgres µs", digits: 1, detail: true},
		{name: othersMetric, title: "others %", digits: 1, detail: true},
		{name: "repeats", title: "repeats", detail: true},
	}
}

func pinnedMessages(s size) int { return pick(s, 2_000, 6_000, 1_000_000) }

func drainLong(endpoints int, run func(context.Context, *trial, drainSize) (sample, error)) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		return run(ctx, t, drainSize{messages: pinnedMessages(t.size), endpoints: endpoints})
	}
}

// drainLongRiver has fewer messages: pinned, it takes minutes over what it shows within the first hundred thousand.
func drainLongRiver(ctx context.Context, t *trial) (sample, error) {
	return drainRiver(ctx, t, drainSize{messages: pinnedMessages(t.size) / 5, endpoints: 1})
}

// pinned has a trial's drain run beside a transaction that sees the backlog as it was before.
func pinned(run runner) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		conn, err := pgx.Connect(ctx, t.db.url)
		if err != nil {
			return nil, fmt.Errorf("pinning the horizon: %w", err)
		}
		t.beforeDrain = func(ctx context.Context) error { return takeSnapshot(ctx, conn) }
		found, err := run(ctx, t)
		if err == nil {
			err = checkPinned(ctx, conn)
		}
		return found, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
}

// takeSnapshot begins a transaction that holds the horizon until the connection is closed.
func takeSnapshot(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return fmt.Errorf("pinning the horizon: %w", err)
	}
	return checkPinned(ctx, conn)
}

// checkPinned makes sure that the transaction still holds the horizon: a server may be set to end idle ones.
func checkPinned(ctx context.Context, conn *pgx.Conn) error {
	var held bool
	err := conn.QueryRow(ctx, "SELECT backend_xmin IS NOT NULL FROM pg_stat_activity WHERE pid = pg_backend_pid()").Scan(&held)
	if err == nil && !held {
		err = errors.New("the transaction has no snapshot")
	}
	if err != nil {
		return fmt.Errorf("pinning the horizon: %w", err)
	}
	return nil
}
