package main

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// endpointsScenario: whether a drain's pace and a message's latency depend on how many endpoints there are. The most is
// what one process can listen on and keep connections to, within the usual limits on open files.
func endpointsScenario() scenario {
	var contenders []contender
	for _, n := range []int{1, 10, 100, 1_000, 4_000} {
		about := fmt.Sprintf("this project, endpoints: %d", n)
		contenders = append(contenders, contender{name: strconv.Itoa(n), at: float64(n), about: about, run: byEndpoints(n)})
	}
	const xTitle = "endpoints"
	return scenario{
		name:       "endpoints",
		about:      "a backlog for many endpoints in turn, and then the latency of 200 messages/s spread over them, with wakes",
		contenders: contenders,
		metrics: []report.Metric{
			{Name: "rate", Title: "messages/s"},
			{Name: "p50", Title: "p50 ms", Digits: 1},
			{Name: "p99", Title: "p99 ms", Digits: 1},
			{Name: "cpu_sender", Title: "sender µs", Digits: 1, Detail: true},
			{Name: "cpu_postgres", Title: "Postgres µs", Digits: 1, Detail: true},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
			{Name: "connections", Title: "connections", Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "rate", Of: "1000", Against: "1"},
			{Metric: "rate", Of: "4000", Against: "1"},
			{Metric: "p99", Of: "1000", Against: "1"},
			{Metric: "p99", Of: "4000", Against: "1"},
		},
		charts: []report.Chart{
			{Title: "Drain by endpoints", XTitle: xTitle, YTitle: "messages/s", Metric: "rate", LogX: true},
			{Title: "Latency by endpoints, 200 messages/s", XTitle: xTitle, YTitle: "p99, ms", Metric: "p99", LogX: true},
		},
		roundsMax: 3,
	}
}

// byEndpoints drains first, and then measures the latency of a load on the tables that the drain left.
func byEndpoints(n int) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		found, err := drainEpilogue(ctx, t, drainSize{messages: pick(t.size, 500, 3_000, 50_000), endpoints: n})
		if err != nil {
			return nil, err
		}
		latency, err := latencyOver(ctx, t, n)
		if err != nil {
			return nil, err
		}
		maps.Copy(latency, found) // the CPU time is the drain's
		return latency, nil
	}
}

// latencyOver measures messages at random times, in turn to the endpoints, by a worker that has not met them yet.
func latencyOver(ctx context.Context, t *trial, endpoints int) (report.Sample, error) {
	t.ProfileDir = "" // the profile of this trial is one of its drain
	l, err := t.NewLoad(pick(t.size, 2, 100, 2_000), endpoints)
	if err != nil {
		return nil, err
	}
	write, closed, err := t.FairWriter(ctx, l)
	if err != nil {
		return nil, err
	}
	defer closed()
	d, err := t.newEpilogue(ctx, drainConfig(t.DB.Schema))
	if err != nil {
		return nil, err
	}
	return t.measureLatency(ctx, l, d, write)
}
