package main

import (
	"context"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// memoryScenario: what a worker holds at rest, when much waits, and when much is in flight. Its configuration is the default one,
// because the defaults are to bound its memory.
func memoryScenario() scenario {
	return scenario{
		name:  "memory",
		about: "resident memory of a worker process with the default configuration",
		contenders: []contender{
			{name: "rest", about: "idle, after a small backlog was drained", run: memoryAfter(memoryMessages)},
			{name: "backlog", about: "the same with a hundred times as many messages", run: memoryAfter(func(s size) int { return 100 * memoryMessages(s) })},
			{name: "large", about: "messages of 1 MiB to slow endpoints, as many in flight as it takes", run: memoryOfLarge},
		},
		metrics: []report.Metric{
			{Name: "rss", Title: "MiB at rest", Digits: 1},
			{Name: "peak", Title: "peak MiB", Digits: 1},
			{Name: "growth", Title: "2nd/1st half", Digits: 2},
			{Name: "over", Title: "peak over rest MiB", Digits: 1},
			{Name: "allowed", Title: "MaxBytesInFlight MiB", Detail: true},
			{Name: "messages", Title: "messages", Detail: true},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "rss", Of: "rest", AtMost: 64, Unit: "MiB"},
			{Metric: "rss", Of: "backlog", AtMost: 64, Unit: "MiB"},
			{Metric: "growth", Of: "backlog", AtMost: 1.1, Unit: "times"},
			{Metric: "over", Of: "large", AtMost: largeFactor * maxBytesInFlight(), Unit: "MiB"},
		},
		charts: []report.Chart{{
			Title: "memory of a worker process", XTitle: "seconds since its start", YTitle: "resident MiB", Curve: "rss",
		}},
		roundsMax: 3, noWarmUp: true,
	}
}

// largeFactor is how many times MaxBytesInFlight the memory may grow by. Go lets the heap double between two collections.
// Besides the bodies, it holds what pgx read them into: a buffer for each of the worker's ten connections, of the next
// power of two above a row, 2 MiB, and kept until the connection is used again: 2 * (64 + 10 * 2) / 64 is 2.63, and a
// heap grows on while it is collected.
const largeFactor = 2.75

const mib = 1 << 20

// maxBytesInFlight is the worker's default, in MiB.
func maxBytesInFlight() float64 {
	return float64(worker.Config{}.WithDefaults().MaxBytesInFlight) / mib
}

const memoryEndpoints = 50

func memoryMessages(s size) int { return pick(s, 20, 50, 2_000) }

// restAfter is how long a worker has been idle when its memory at rest is read. The Go runtime gives memory back in the
// background.
func restAfter(s size) time.Duration { return pick(s, 0, 500*time.Millisecond, 15*time.Second) }

// memoryAfter starts a worker with a backlog, and lets it drain and rest.
func memoryAfter(messages func(size) int) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		w, l, err := t.startUponBacklog(ctx, messages(t.size))
		if err != nil {
			return nil, err
		}
		defer func() { _ = w.End() }()
		seen := t.watchMemory(w)
		defer seen()
		var drained time.Duration
		used, err := t.Timed(func() (err error) {
			drained, err = t.drainAndRest(w)
			return err
		})
		if err != nil {
			return nil, err
		}
		found := report.Sample{"messages": float64(l.Messages)}
		if m, ok := w.Memory(); ok {
			found["rss"], found["peak"] = m.Resident, m.Peak
		}
		if growth, ok := peakGrowth(seen(), drained.Seconds()); ok && t.size == full {
			found["growth"] = growth // the first seconds show the runtime's own growth, whatever the backlog
		}
		noteOthers(found, used)
		return found, t.checkDelivered(ctx, l)
	}
}

// startUponBacklog writes messages and then starts a worker.
func (t *trial) startUponBacklog(ctx context.Context, messages int) (*stand.WorkerProcess, stand.Load, error) {
	if err := t.DB.MigrateOutbox(ctx); err != nil {
		return nil, stand.Load{}, err
	}
	l, err := t.NewLoad(messages, memoryEndpoints)
	if err != nil {
		return nil, l, err
	}
	if err := stand.WriteBacklog(ctx, t.DB, l, 0, l.Messages); err != nil {
		return nil, l, err
	}
	if err := t.DB.Settle(ctx); err != nil {
		return nil, l, err
	}
	w, err := t.StartWorker(ctx)
	return w, l, err
}

// drainAndRest returns when everything was delivered and recorded, and the worker has been idle for a while. It tells
// when the worker became idle, counted from its start.
func (t *trial) drainAndRest(w *stand.WorkerProcess) (drained time.Duration, err error) {
	if _, err := t.Receiver.Await(w.Running); err != nil {
		return 0, err
	}
	if err := t.untilRecorded(w.Running); err != nil {
		return 0, err
	}
	drained = time.Since(w.Begun)
	return drained, pause(w.Running, restAfter(t.size))
}

// peakGrowth is the most memory in the second half of the time until end against the most in the first half. ok is false
// when one of them was not seen.
func peakGrowth(seen []report.Point, end float64) (growth float64, ok bool) {
	var first, second float64
	for _, p := range seen {
		if p.X < end/2 {
			first = max(first, p.Y)
		} else if p.X < end {
			second = max(second, p.Y)
		}
	}
	return second / first, first > 0 && second > 0
}

// untilRecorded returns when every message has its result on record.
func (t *trial) untilRecorded(ctx context.Context) error {
	return stand.UntilDone(ctx, func(ctx context.Context) (bool, error) {
		return stand.One[bool](ctx, t.DB, "SELECT NOT EXISTS (SELECT FROM bench.due)")
	})
}

// watchMemory reads a worker's memory at intervals, until it is stopped or the worker ends. The curve "rss" has MiB by
// seconds since the worker's start.
func (t *trial) watchMemory(w *stand.WorkerProcess) (stop func() []report.Point) {
	every := pick(t.size, 100*time.Millisecond, 50*time.Millisecond, 250*time.Millisecond)
	ctx, cancel := context.WithCancel(w.Running)
	ended := make(chan struct{})
	var seen []report.Point
	go func() {
		defer close(ended)
		for pause(ctx, every) == nil {
			if m, ok := w.Memory(); ok {
				seen = append(seen, report.Point{X: time.Since(w.Begun).Seconds(), Y: m.Resident})
			}
		}
	}()
	return sync.OnceValue(func() []report.Point {
		cancel()
		<-ended
		for _, p := range seen {
			t.Plot("rss", p.X, p.Y)
		}
		return seen
	})
}
