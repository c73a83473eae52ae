package main

import (
	"context"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// backlogScenario: whether a drain is as fast when much more is waiting than it can deliver soon.
func backlogScenario() scenario {
	const about = "the first 100 000 of %s messages"
	return scenario{
		name:  "backlog",
		about: "the first 100 000 messages of a backlog for one endpoint, by how much is waiting",
		contenders: []contender{
			{name: "100k", at: 100_000, about: fmt.Sprintf(about, "100 000"), run: backlogOf(2_000, 5_000, 100_000)},
			{name: "1M", at: 1_000_000, about: fmt.Sprintf(about, "1 million"), run: backlogOf(4_000, 20_000, 1_000_000)},
			{name: "10M", at: 10_000_000, about: fmt.Sprintf(about, "10 million"), run: backlogOf(8_000, 100_000, 10_000_000)},
		},
		metrics: []report.Metric{
			{Name: "rate", Title: "messages/s"},
			{Name: "cpu_sender", Title: "sender µs", Digits: 1, Detail: true},
			{Name: "cpu_postgres", Title: "Postgres µs", Digits: 1, Detail: true},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
			{Name: "flat", Title: "last/first", Digits: 2, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "rate", Of: "10M", Against: "100k", AtLeast: 0.9},
			{Metric: "rate", Of: "1M", Against: "100k"},
		},
		charts: []report.Chart{{
			Title: "Drain by backlog", XTitle: "messages waiting", YTitle: "messages/s", Metric: "rate", LogX: true,
		}},
		roundsMax: 2,
	}
}

// backlogOf returns a trial with as many messages waiting as its size says, of which it drains the first ones.
func backlogOf(atWarmUp, atShort, atFull int) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		return drainBacklog(ctx, t, pick(t.size, 1_000, 4_000, 100_000), pick(t.size, atWarmUp, atShort, atFull))
	}
}

// drainBacklog delivers the first `drained` messages. It measures from the first arrival until they are recorded.
func drainBacklog(ctx context.Context, t *trial, drained, waiting int) (report.Sample, error) {
	if err := t.DB.MigrateOutbox(ctx); err != nil {
		return nil, err
	}
	urls, err := t.Receiver.Open(1)
	if err != nil {
		return nil, err
	}
	l := stand.Load{Messages: waiting, URLs: urls}
	if l.Trial, err = t.Receiver.ExpectFirst(drained, waiting); err != nil {
		return nil, err
	}
	if err := stand.WriteBacklog(ctx, t.DB, l, 0, waiting); err != nil {
		return nil, err
	}
	if err := t.DB.Settle(ctx); err != nil {
		return nil, err
	}
	d, err := t.newEpilogue(ctx, drainConfig(t.DB.Schema))
	if err != nil {
		return nil, err
	}
	// Ids are in the order of time and of the numbers: the start of the index shows that the first are done.
	last, err := stand.One[string](ctx, t.DB, "SELECT id::text FROM bench.message WHERE run_id = $1", stand.RunID(drained-1))
	if err != nil {
		return nil, err
	}
	d.Done = func(ctx context.Context) (bool, error) {
		return stand.One[bool](ctx, t.DB, "SELECT NOT EXISTS (SELECT FROM bench.due WHERE message_id <= $1::text::uuid)", last)
	}
	found, err := t.drainFirst(ctx, drained, d)
	if err != nil {
		return nil, err
	}
	n, err := stand.One[int](ctx, t.DB,
		"SELECT count(*) FROM bench.attempt WHERE class = 'delivered' AND message_id <= $1::text::uuid", last)
	if err == nil && n != drained {
		err = fmt.Errorf("%d attempts of the first messages are recorded as delivered; want %d", n, drained)
	}
	return found, err
}
