package main

import (
	"context"
	"fmt"
	"maps"
	"strconv"
)

// endpointsScenario: whether a drain's pace and a message's latency depend on how many endpoints there are. The most is
// what one process can listen on and keep connections to, within the limits of files that systems set.
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
		metrics: []metric{
			{name: "rate", title: "messages/s"},
			{name: "p50", title: "p50 ms", digits: 1},
			{name: "p99", title: "p99 ms", digits: 1},
			{name: "cpu_sender", title: "sender µs", digits: 1, detail: true},
			{name: "cpu_postgres", title: "Postgres µs", digits: 1, detail: true},
			{name: othersMetric, title: "others %", digits: 1, detail: true},
			{name: "connections", title: "connections", detail: true},
		},
		budgets: []budget{
			{metric: "rate", of: "1000", against: "1"},
			{metric: "rate", of: "4000", against: "1"},
			{metric: "p99", of: "1000", against: "1"},
			{metric: "p99", of: "4000", against: "1"},
		},
		charts: []chart{
			{title: "Drain by endpoints", xTitle: xTitle, yTitle: "messages/s", metric: "rate", logX: true},
			{title: "Latency by endpoints, 200 messages/s", xTitle: xTitle, yTitle: "p99, ms", metric: "p99", logX: true},
		},
		roundsMax: 3,
	}
}

// byEndpoints drains first, and then measures the latency of a load on the tables that the drain left.
func byEndpoints(n int) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
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

// latencyOver measures messages at random times, in turn to so many endpoints, by a worker that has not met them yet.
func latencyOver(ctx context.Context, t *trial, endpoints int) (sample, error) {
	t.profileDir = "" // the profile of this trial is one of its drain
	l, err := t.newLoad(pick(t.size, 2, 100, 2_000), endpoints)
	if err != nil {
		return nil, err
	}
	write, closed, err := t.fairWriter(ctx, l)
	if err != nil {
		return nil, err
	}
	defer closed()
	d, err := t.newEpilogue(ctx, drainConfig(t.db.schema))
	if err != nil {
		return nil, err
	}
	return t.measureLatency(ctx, l, d, write)
}
