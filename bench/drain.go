package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
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
		budgets: []budget{
			{metric: "rate", of: "epilogue", against: "bare", atLeast: 0.6},
			{metric: "rate", of: "epilogue", against: "river", atLeast: 2},
			{metric: "rate", of: "epilogue", against: "river-row", atLeast: 5},
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
		budgets: []budget{
			{metric: "rate", of: "epilogue", against: "bare", atLeast: 0.5},
			{metric: "rate", of: "epilogue", against: "bare-1000"},
			{metric: "rate", of: "epilogue", against: "river"},
		},
	}
}

// drainSize is how much is drained.
type drainSize struct{ messages, endpoints int }

func drainTo(endpoints int, run func(context.Context, *trial, drainSize) (sample, error)) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		return run(ctx, t, drainSize{messages: pick(t.size, 2_000, 10_000, 100_000), endpoints: endpoints})
	}
}

func drainMetrics() []metric {
	return []metric{
		{name: "rate", title: "messages/s"},
		{name: "cpu_sender", title: "sender µs", digits: 1, detail: true},
		{name: "cpu_postgres", title: "Postgres µs", digits: 1, detail: true},
		{name: "cpu_receiver", title: "receiver µs", digits: 1, detail: true},
		{name: othersMetric, title: "others %", digits: 1, detail: true},
		{name: "flat", title: "last/first", digits: 2, detail: true},
		{name: "connections", title: "connections", detail: true},
		{name: "repeats", title: "repeats", detail: true},
	}
}

// drainer is a contender that is ready to drain a backlog.
type drainer struct {
	run  func(ctx context.Context) error         // works until ctx ends
	done func(ctx context.Context) (bool, error) // whether every result is recorded; asked when all messages arrived
}

// lookEvery is how often done is asked: short beside a trial, long beside the question.
const lookEvery = 5 * time.Millisecond

// drain runs a drainer until it has delivered everything and recorded that.
func (t *trial) drain(ctx context.Context, l load, d drainer) (sample, error) {
	return t.drainFirst(ctx, l.messages, d)
}

// drainFirst runs a drainer until it has delivered the messages that are waited for, the first so many, and recorded
// that. The rate counts from the first arrival: starting up is not draining.
func (t *trial) drainFirst(ctx context.Context, messages int, d drainer) (sample, error) {
	if t.beforeDrain != nil {
		if err := t.beforeDrain(ctx); err != nil {
			return nil, err
		}
	}
	var p Progress
	var end time.Time
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	used, err := t.timed(func() (err error) {
		go func() {
			defer stop() // a drainer that gives up ends the waiting for it
			ended <- d.run(running)
		}()
		if p, err = t.receiver.await(running); err != nil {
			return err
		}
		err = untilDone(running, d.done)
		end = time.Now()
		return err
	})
	stop()
	err = errors.Join(<-ended, err)
	if err != nil {
		return nil, err
	}
	last, err := t.receiver.progress()
	if err != nil {
		return nil, err
	}
	arrived, err := t.receiver.arrivals()
	if err != nil {
		return nil, err
	}
	arrived = arrived[:messages]
	t.plotRate(arrived)
	found := used.perMessage(messages)
	found["rate"] = float64(messages) / end.Sub(time.Unix(0, p.First)).Seconds()
	found["flat"] = flatness(arrived)
	found["connections"] = float64(last.Conns)
	found["repeats"] = float64(last.Requests - last.Distinct)
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

func untilDone(ctx context.Context, done func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	until := time.Now().Add(stalledAfter)
	for {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("all messages arrived, but %v later not all results are recorded", stalledAfter)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// perMessage shares the CPU time out, in microseconds, and says how much of the machine others used meanwhile.
func (u cpuUse) perMessage(messages int) sample {
	if !u.known {
		return sample{}
	}
	each := func(seconds float64) float64 { return seconds * 1e6 / float64(messages) }
	return sample{
		"cpu_sender": each(u.self), "cpu_postgres": each(u.postgres), "cpu_receiver": each(u.receiver),
		othersMetric: u.othersPercent(),
	}
}
