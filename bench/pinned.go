package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// pinnedScenario: whether a drain keeps its pace while another session keeps all its row versions alive, as a
// dump or a forgotten transaction does.
func pinnedScenario() scenario {
	const endpoints = 100
	return scenario{
		name:  "pinned",
		about: "a drain while another session holds the MVCC horizon, so that no dead row can be removed",
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
		budgets: []report.Budget{
			{Metric: "rate", Of: "pinned", Against: "unpinned", AtLeast: 0.9},
			{Metric: "flat", Of: "pinned", Against: "unpinned", AtLeast: 0.9}, // a million messages outgrow the caches, pinned or not
			{Metric: "flat", Of: "pinned"},
			{Metric: "flat", Of: "unpinned"},
			{Metric: "flat", Of: "pinned-100"},
			{Metric: "flat", Of: "river-pinned"},
		},
		charts: []report.Chart{{
			Title: "Deliveries while the MVCC horizon is pinned", XTitle: "seconds since the first delivery", YTitle: "messages/s",
			Curve: report.RateCurve,
		}},
		roundsMax: 2,
	}
}

func pinnedMetrics() []report.Metric {
	return []report.Metric{
		{Name: "rate", Title: "messages/s"},
		{Name: "flat", Title: "last/first", Digits: 2},
		{Name: "cpu_sender", Title: "sender µs", Digits: 1, Detail: true},
		{Name: "cpu_postgres", Title: "Postgres µs", Digits: 1, Detail: true},
		{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		{Name: "repeats", Title: "repeats", Detail: true},
	}
}

func pinnedMessages(s size) int { return pick(s, 2_000, 6_000, 1_000_000) }

func drainLong(endpoints int, run func(context.Context, *trial, drainSize) (report.Sample, error)) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		return run(ctx, t, drainSize{messages: pinnedMessages(t.size), endpoints: endpoints})
	}
}

// drainLongRiver has fewer messages: pinned, it would take minutes, and the first hundred thousand already show the effect.
func drainLongRiver(ctx context.Context, t *trial) (report.Sample, error) {
	return drainRiver(ctx, t, drainSize{messages: pinnedMessages(t.size) / 5, endpoints: 1})
}

// pinned runs a trial's drain beside a transaction that sees the backlog as it was before.
func pinned(run runner) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		conn, err := pgx.Connect(ctx, t.DB.URL)
		if err != nil {
			return nil, fmt.Errorf("pinning the horizon: %w", err)
		}
		t.BeforeDrain = func(ctx context.Context) error { return takeSnapshot(ctx, conn) }
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
