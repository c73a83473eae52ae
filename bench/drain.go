package main

import (
	"context"
	"slices"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// drainScenario: how fast a backlog for one endpoint is delivered.
func drainScenario() scenario {
	return scenario{
		name:  "drain",
		about: "a backlog for one endpoint, 256-byte bodies, to a receiver that answers 200 at once",
		contenders: []contender{
			{name: "bare", about: "a POST loop, 64 at a time, without a database: the ceiling", run: drainTo(1, drainBare)},
			{name: "epilogue", about: "this project", run: drainTo(1, drainEpilogue)},
			{name: "river", about: "River, one job per webhook, tuned", run: drainTo(1, drainRiver)},
			{name: "river-row", about: "River, one job per outbox row: load, post, update", run: drainTo(1, drainRiverRow)},
		},
		metrics: drainMetrics(),
		budgets: []report.Budget{
			{Metric: "rate", Of: "epilogue", Against: "bare", AtLeast: 0.6},
			{Metric: "rate", Of: "epilogue", Against: "river", AtLeast: 2},
			{Metric: "rate", Of: "epilogue", Against: "river-row", AtLeast: 5},
		},
	}
}

// drainManyScenario: the same for a thousand endpoints, each a port of the receiver's.
func drainManyScenario() scenario {
	const endpoints = 1000
	return scenario{
		name:  "drain-1000",
		about: "a backlog for 1 000 endpoints, in turn; the ceiling is still one endpoint's",
		contenders: []contender{
			{name: "bare", about: "the POST loop to one endpoint: the ceiling", run: drainTo(1, drainBare)},
			{name: "bare-1000", about: "the POST loop to 1 000 endpoints", run: drainTo(endpoints, drainBare)},
			{name: "epilogue", about: "this project, 1 000 endpoints", run: drainTo(endpoints, drainEpilogue)},
			{name: "river", about: "River, one job per webhook, tuned, 1 000 endpoints", run: drainTo(endpoints, drainRiver)},
		},
		metrics: drainMetrics(),
		budgets: []report.Budget{
			{Metric: "rate", Of: "epilogue", Against: "bare", AtLeast: 0.5},
			{Metric: "rate", Of: "epilogue", Against: "bare-1000"},
			{Metric: "rate", Of: "epilogue", Against: "river"},
		},
	}
}

// drainSize is how much is drained.
type drainSize struct{ messages, endpoints int }

func drainTo(endpoints int, run func(context.Context, *trial, drainSize) (report.Sample, error)) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		return run(ctx, t, drainSize{messages: pick(t.size, 2_000, 10_000, 100_000), endpoints: endpoints})
	}
}

func drainMetrics() []report.Metric {
	return []report.Metric{
		{Name: "rate", Title: "messages/s"},
		{Name: "cpu_sender", Title: "sender µs", Digits: 1, Detail: true},
		{Name: "cpu_postgres", Title: "Postgres µs", Digits: 1, Detail: true},
		{Name: "cpu_receiver", Title: "receiver µs", Digits: 1, Detail: true},
		{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		{Name: "flat", Title: "last/first", Digits: 2, Detail: true},
		{Name: "connections", Title: "connections", Detail: true},
		{Name: "repeats", Title: "repeats", Detail: true},
	}
}

// drain runs a drainer until it has delivered everything and recorded that.
func (t *trial) drain(ctx context.Context, l stand.Load, d stand.Drainer) (report.Sample, error) {
	return t.drainFirst(ctx, l.Messages, d)
}

// drainFirst runs a drainer until the number of messages that the trial waits for is delivered and recorded.
func (t *trial) drainFirst(ctx context.Context, messages int, d stand.Drainer) (report.Sample, error) {
	done, err := t.RunDrainer(ctx, messages, d)
	if err != nil {
		return nil, err
	}
	t.PlotRate(done.Arrived)
	found := perMessage(done.Used, messages)
	found["rate"] = float64(messages) / done.Took.Seconds()
	found["flat"] = flatness(done.Arrived)
	found["connections"] = float64(done.Conns)
	found["repeats"] = float64(done.Repeats)
	return found, nil
}

// flatness is the rate over the last quarter of the arrivals against that over the first: below 1, the drain became
// slower as it went.
func flatness(arrived []int64) float64 {
	at := slices.Sorted(slices.Values(arrived))
	quarter := len(at) / 4
	first, last := at[quarter]-at[0], at[len(at)-1]-at[len(at)-1-quarter]
	return float64(first) / float64(max(last, 1))
}
