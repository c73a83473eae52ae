package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// farAfter is how long a far receiver takes to answer.
const farAfter = 50 * time.Millisecond

// farScenario: receivers that are far away, over TLS. What a worker can have in flight bounds the rate, until the processors do.
func farScenario() scenario {
	http1, http2 := stand.Far{}, stand.Far{HTTP2: true}
	resumed, full := stand.Far{Anew: true}, stand.Far{Anew: true, Full: true}
	return scenario{
		name:  "far",
		about: fmt.Sprintf("a backlog for 1 000 origins that talk TLS and answer after %v; a worker process", farAfter),
		contenders: []contender{
			{name: "256", about: "HTTP/1.1, connections kept, 256 in flight", run: farEpilogue(http1, 256)},
			{name: "256-h2", about: "HTTP/2, 256 in flight", run: farEpilogue(http2, 256)},
			{name: "2000", about: "HTTP/1.1, connections kept, 2 000 in flight", run: farEpilogue(http1, 2000)},
			{name: "2000-h2", about: "HTTP/2, 2 000 in flight", run: farEpilogue(http2, 2000)},
			{name: "resumed", about: "a connection for each request, TLS sessions resumed, 256 in flight", run: farEpilogue(resumed, 256)},
			{name: "full", about: "a connection for each request, full handshakes, 256 in flight", run: farEpilogue(full, 256)},
		},
		metrics: []report.Metric{
			{Name: "rate", Title: "messages/s"},
			{Name: "share", Title: "of in flight / latency", Digits: 2},
			{Name: "peak", Title: "peak MiB", Digits: 1},
			{Name: "cpu_sender", Title: "sender µs", Digits: 1, Detail: true},
			{Name: "cpu_postgres", Title: "Postgres µs", Digits: 1, Detail: true},
			{Name: "cpu_receiver", Title: "receiver µs", Digits: 1, Detail: true},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
			{Name: "connections", Title: "connections", Detail: true},
			{Name: "repeats", Title: "repeats", Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "share", Of: "256", AtLeast: 0.9},
			{Metric: "share", Of: "256-h2", AtLeast: 0.9},
			{Metric: "peak", Of: "2000", AtMost: 128, Unit: "MiB"},
			{Metric: "peak", Of: "2000-h2", AtMost: 128, Unit: "MiB"},
			{Metric: "rate", Of: "resumed", Against: "full"},
		},
		roundsMax: 3,
	}
}

// farEpilogue drains with a worker process, whose memory is its own.
func farEpilogue(to stand.Far, inFlight int) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		to.After, to.Endpoints = farAfter, pick(t.size, 100, 1000, 1000)
		messages := pick(t.size, 1_000, 20_000, 100_000)
		directory, err := os.MkdirTemp("", "epilogue-bench-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(directory) }()
		if err := t.DB.MigrateOutbox(ctx); err != nil {
			return nil, err
		}
		l, caFile, err := t.NewFarLoad(messages, to, directory)
		if err != nil {
			return nil, err
		}
		if err := stand.WriteBacklog(ctx, t.DB, l, 0, l.Messages); err != nil {
			return nil, err
		}
		if err := t.DB.Settle(ctx); err != nil {
			return nil, err
		}
		found, err := t.farDrain(ctx, l, "CA_FILE="+caFile, "MAX_IN_FLIGHT="+strconv.Itoa(inFlight),
			"CONNECT_TIMEOUT=15s", "TLS_TIMEOUT=15s") // 2 000 handshakes at once take the receiver's processors for seconds
		if err != nil {
			return nil, err
		}
		found["share"] = found["rate"] / (float64(inFlight) / farAfter.Seconds())
		return found, t.checkDelivered(ctx, l)
	}
}

// farDrain lets a worker process drain, and measures from the first arrival to the last.
func (t *trial) farDrain(ctx context.Context, l stand.Load, settings ...string) (found report.Sample, err error) {
	var (
		p      stand.Progress
		memory stand.Memory
	)
	used, err := t.Timed(func() error {
		w, err := t.StartWorker(ctx, settings...)
		if err != nil {
			return err
		}
		defer func() { _ = w.End() }()
		if p, err = t.Receiver.Await(w.Running); err != nil {
			return err
		}
		if err := t.untilRecorded(w.Running); err != nil {
			return err
		}
		memory, _ = w.Memory()
		return nil
	})
	if err != nil {
		return nil, err
	}
	arrived, err := t.Receiver.Arrivals()
	if err != nil {
		return nil, err
	}
	var last int64
	for _, at := range arrived {
		last = max(last, at)
	}
	if last <= p.First {
		return nil, errors.New("all messages came at one moment")
	}
	found = perMessage(used, l.Messages)
	found["rate"] = float64(l.Messages) / (time.Duration(last - p.First)).Seconds()
	found["peak"], found["connections"], found["repeats"] = memory.Peak, float64(p.Conns), float64(p.Requests-l.Messages)
	return found, nil
}
