package main

import (
	"context"
	"fmt"
)

// backlogScenario: whether a drain is as quick when much more is waiting than it can deliver soon.
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
		metrics: []metric{
			{name: "rate", title: "messages/s"},
			{name: "cpu_sender", title: "sender µs", digits: 1, detail: true},
			{name: "cpu_postgres", title: "Postgres µs", digits: 1, detail: true},
			{name: othersMetric, title: "others %", digits: 1, detail: true},
			{name: "flat", title: "last/first", digits: 2, detail: true},
		},
		budgets: []budget{
			{metric: "rate", of: "10M", against: "100k", atLeast: 0.9},
			{metric: "rate", of: "1M", against: "100k"},
		},
		charts: []chart{{
			title: "Drain by backlog", xTitle: "messages waiting", yTitle: "messages/s", metric: "rate", logX: true,
		}},
		roundsMax: 2,
	}
}

// backlogOf returns a trial with so many messages waiting as its size says, of which it drains the first ones.
func backlogOf(atWarmUp, atShort, atFull int) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		return drainBacklog(ctx, t, pick(t.size, 1_000, 4_000, 100_000), pick(t.size, atWarmUp, atShort, atFull))
	}
}

// drainBacklog measures from the first arrival to the record of the first messages so many as drained is.
func drainBacklog(ctx context.Context, t *trial, drained, waiting int) (sample, error) {
	if err := t.db.migrateOutbox(ctx); err != nil {
		return nil, err
	}
	urls, err := t.receiver.open(1)
	if err != nil {
		return nil, err
	}
	l := load{messages: waiting, urls: urls}
	if l.trial, err = t.receiver.expectFirst(drained, waiting); err != nil {
		return nil, err
	}
	if err := writeOutboxBulk(ctx, t.db, l, 0, waiting); err != nil {
		return nil, err
	}
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	d, err := t.newEpilogue(ctx, drainConfig(t.db.schema))
	if err != nil {
		return nil, err
	}
	// Ids are in the order of time and of the numbers: a look at the start of the index says that the first are done.
	last, err := one[string](ctx, t.db, "SELECT id::text FROM bench.message WHERE run_id = $1", runID(drained-1))
	if err != nil {
		return nil, err
	}
	d.done = func(ctx context.Context) (bool, error) {
		return one[bool](ctx, t.db, "SELECT NOT EXISTS (SELECT FROM bench.due WHERE message_id <= $1::text::uuid)", last)
	}
	found, err := t.drainFirst(ctx, drained, d)
	if err != nil {
		return nil, err
	}
	n, err := one[int](ctx, t.db,
		"SELECT count(*) FROM bench.attempt WHERE class = 'delivered' AND message_id <= $1::text::uuid", last)
	if err == nil && n != drained {
		err = fmt.Errorf("%d attempts of the first messages are recorded as delivered; want %d", n, drained)
	}
	return found, err
}
