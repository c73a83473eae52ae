package main

import (
	"context"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker"
)

// memoryScenario: what a worker holds at rest, when much waits, and when much is in flight. Nothing of its configuration
// is set, for its defaults are what bounds it.
func memoryScenario() scenario {
	return scenario{
		name:  "memory",
		about: "resident memory of a worker process with the default configuration",
		contenders: []contender{
			{name: "rest", about: "idle, after a small backlog was drained", run: memoryAfter(memoryMessages)},
			{name: "backlog", about: "the same with a hundred times as many messages", run: memoryAfter(func(s size) int { return 100 * memoryMessages(s) })},
			{name: "large", about: "messages of 1 MiB to slow endpoints, as many in flight as it takes", run: memoryOfLarge},
		},
		metrics: []metric{
			{name: "rss", title: "MiB at rest", digits: 1},
			{name: "peak", title: "peak MiB", digits: 1},
			{name: "growth", title: "2nd/1st half", digits: 2},
			{name: "over", title: "peak over rest MiB", digits: 1},
			{name: "allowed", title: "MaxBytesInFlight MiB", detail: true},
			{name: "messages", title: "messages", detail: true},
			{name: othersMetric, title: "others %", digits: 1, detail: true},
		},
		budgets: []budget{
			{metric: "rss", of: "rest", atMost: 64, unit: "MiB"},
			{metric: "rss", of: "backlog", atMost: 64, unit: "MiB"},
			{metric: "growth", of: "backlog", atMost: 1.1, unit: "times"},
			{metric: "over", of: "large", atMost: largeFactor * maxBytesInFlight(), unit: "MiB"},
		},
		charts: []chart{{
			title: "memory of a worker process", xTitle: "seconds since its start", yTitle: "resident MiB", curve: "rss",
		}},
		roundsMax: 3, noWarmUp: true,
	}
}

// largeFactor is how many times MaxBytesInFlight the memory may grow by. Go lets the heap double between two collections.
// Besides the bodies, it holds what pgx read them into: a buffer for each of the worker's ten connections, of the next
// power of two above a row, 2 MiB, and kept until the connection is used again: 2 * (64 + 10 * 2) / 64 is 2.63, and a
// heap grows on while it is collected.
const largeFactor = 2.75

// maxBytesInFlight is the worker's default, in MiB.
func maxBytesInFlight() float64 {
	return float64(worker.Config{}.WithDefaults().MaxBytesInFlight) / mib
}

const memoryEndpoints = 50

func memoryMessages(s size) int { return pick(s, 20, 50, 2_000) }

// restAfter is how long a worker has been idle when its memory at rest is read. The Go runtime gives memory back in the
// background.
func restAfter(s size) time.Duration { return pick(s, 0, 500*time.Millisecond, 15*time.Second) }

// memoryAfter has a worker start upon a backlog, drain it, and rest.
func memoryAfter(messages func(size) int) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		w, l, err := t.startUponBacklog(ctx, messages(t.size))
		if err != nil {
			return nil, err
		}
		defer func() { _ = w.end() }()
		seen := t.watchMemory(w)
		defer seen()
		var drained time.Duration
		used, err := t.timed(func() (err error) {
			drained, err = t.drainAndRest(w)
			return err
		})
		if err != nil {
			return nil, err
		}
		found := sample{"messages": float64(l.messages)}
		if m, ok := w.memory(); ok {
			found["rss"], found["peak"] = m.resident, m.peak
		}
		if growth, ok := peakGrowth(seen(), drained.Seconds()); ok && t.size == full {
			found["growth"] = growth // the first seconds show the runtime's own growth, whatever the backlog
		}
		used.noteOthers(found)
		return found, t.checkDelivered(ctx, l)
	}
}

// startUponBacklog writes messages and starts a worker.
func (t *trial) startUponBacklog(ctx context.Context, messages int) (*workerProcess, load, error) {
	if err := t.db.migrateOutbox(ctx); err != nil {
		return nil, load{}, err
	}
	l, err := t.newLoad(messages, memoryEndpoints)
	if err != nil {
		return nil, l, err
	}
	if err := writeOutboxBulk(ctx, t.db, l, 0, l.messages); err != nil {
		return nil, l, err
	}
	if err := t.db.settle(ctx); err != nil {
		return nil, l, err
	}
	w, err := t.startWorker(ctx)
	return w, l, err
}

// drainAndRest returns when everything was delivered and recorded, and the worker has been idle for a while. It tells
// when the worker became idle, counted from its start.
func (t *trial) drainAndRest(w *workerProcess) (drained time.Duration, err error) {
	if _, err := t.receiver.await(w.running); err != nil {
		return 0, err
	}
	if err := t.untilRecorded(w.running); err != nil {
		return 0, err
	}
	drained = time.Since(w.begun)
	return drained, pause(w.running, restAfter(t.size))
}

// peakGrowth is the most memory in the second half of the time until end against the most in the first half. ok is false
// when one of them was not seen.
func peakGrowth(seen []point, end float64) (growth float64, ok bool) {
	var first, second float64
	for _, p := range seen {
		if p.x < end/2 {
			first = max(first, p.y)
		} else if p.x < end {
			second = max(second, p.y)
		}
	}
	return second / first, first > 0 && second > 0
}

// untilRecorded returns when every message has its result on record.
func (t *trial) untilRecorded(ctx context.Context) error {
	return untilDone(ctx, func(ctx context.Context) (bool, error) {
		return one[bool](ctx, t.db, "SELECT NOT EXISTS (SELECT FROM bench.due)")
	})
}

// noteOthers adds what others used of the machine to a sample, where it is known.
func (u cpuUse) noteOthers(found sample) {
	if u.known {
		found[othersMetric] = u.othersPercent()
	}
}
