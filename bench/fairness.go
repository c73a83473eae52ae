package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// The scenarios of fairness time the new messages of some endpoints while a neighbour makes trouble. Their trials write
// for a time, and not an amount, so that what is slow cannot make a trial longer.

// fairnessRoundsMax bounds the rounds, for each takes minutes.
const fairnessRoundsMax = 3

// fairWriters is how many connections each stream of new messages comes over.
const fairWriters = 6

// fairMetrics are of the timed messages only.
func fairMetrics(details ...metric) []metric {
	metrics := []metric{
		{name: "p99", title: "p99 ms", digits: 1},
		{name: "p50", title: "p50 ms", digits: 1},
		{name: "max", title: "max ms", digits: 1},
	}
	metrics = append(metrics, details...)
	return append(metrics,
		metric{name: "sender", title: "sender %", detail: true},
		metric{name: "postgres", title: "Postgres %", detail: true},
		metric{name: "receiver", title: "receiver %", detail: true},
		metric{name: othersMetric, title: "others %", digits: 1, detail: true},
	)
}

// fair is a trial of fairness.
type fair struct {
	*trial

	all     load // every message; those of the timed stream come first, and they alone are awaited
	drainer drainer
	closed  []func() // what ends with the trial
}

// newFair prepares a trial of so many timed messages, and others, to so many endpoints, of which the timed ones are
// those from the index.
func (t *trial) newFair(ctx context.Context, timed, messages, endpoints, timedFrom int, config worker.Config) (f *fair, err error) {
	if err := t.db.migrateOutbox(ctx); err != nil {
		return nil, err
	}
	f = &fair{trial: t, all: load{messages: messages}}
	if f.all.urls, err = t.receiver.open(endpoints); err != nil {
		return nil, err
	}
	if f.all.trial, err = t.receiver.expectFirst(timed, messages); err != nil {
		return nil, err
	}
	// That endpoints are opened is what these trials are about, and no requests that are awaited are left at their end.
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	config.ShutdownTimeout = 100 * time.Millisecond
	if f.drainer, err = t.newEpilogue(ctx, config); err != nil {
		return nil, err
	}
	origins, err := originsOf(f.all.urls[timedFrom:])
	f.drainer.done = func(ctx context.Context) (bool, error) {
		return one[bool](ctx, t.db, "SELECT NOT EXISTS (SELECT FROM bench.due WHERE endpoint = ANY ($1))", origins)
	}
	return f, err
}

func originsOf(urls []string) (origins []string, err error) {
	for _, url := range urls {
		origin, err := outbox.CheckURL(url)
		if err != nil {
			return nil, err
		}
		origins = append(origins, origin)
	}
	return origins, nil
}

// to is the load of the endpoints from the first to before the last index.
func (f *fair) to(first, last int) load {
	l := f.all
	l.urls = l.urls[first:last]
	return l
}

// stream is the messages of a load from the first to before the last number.
func (f *fair) stream(ctx context.Context, l load, from, until, rate int) (stream, error) {
	write, closed, err := f.fairWriter(ctx, l)
	if err == nil {
		f.closed = append(f.closed, closed)
	}
	return stream{load: l, from: from, until: until, rate: rate, writers: fairWriters, write: write}, err
}

// measure flies the streams, of which the first is the timed one, and checks that its messages are on record, each by
// one attempt.
func (f *fair) measure(ctx context.Context, streams []stream, beside ...func(context.Context) error) (flown, error) {
	found, err := f.fly(ctx, f.drainer, streams, beside...)
	for _, closed := range f.closed {
		closed()
	}
	if err != nil {
		return found, err
	}
	timed := streams[0]
	origins, err := originsOf(timed.urls)
	if err != nil {
		return found, err
	}
	n, err := one[int](ctx, f.db, "SELECT count(*) FROM bench.attempt a JOIN bench.message m ON m.id = a.message_id "+
		"WHERE a.class = 'delivered' AND m.endpoint = ANY ($1)", origins)
	if err == nil && n != timed.until {
		err = fmt.Errorf("%d attempts to the timed endpoints are recorded as delivered; want %d", n, timed.until)
	}
	return found, err
}

// waits returns how long those messages of a stream took that were committed in [from, until), in order. The first of a
// trial is not among them: it waited for the start.
func (f flown) waits(s stream, from, until time.Time) []float64 {
	var w []float64
	for n := max(s.from, 1); n < s.until; n++ {
		if at := f.committed[n]; !at.Before(from) && at.Before(until) {
			w = append(w, f.wait(n))
		}
	}
	slices.Sort(w)
	return w
}

// fairSample says what the waits come to, and what share of all cores each process had.
func fairSample(waits []float64, used cpuUse) (sample, error) {
	if len(waits) == 0 {
		return nil, errors.New("no message was committed in the time that counts")
	}
	found := sample{"p50": quantile(waits, 0.5), "p99": quantile(waits, 0.99), "max": waits[len(waits)-1]}
	if used.known {
		percent := func(seconds float64) float64 { return seconds / (used.elapsed * float64(runtime.NumCPU())) * 100 }
		found["sender"], found["postgres"], found["receiver"] = percent(used.self), percent(used.postgres), percent(used.receiver)
		found[othersMetric] = used.othersPercent()
	}
	return found, nil
}

// plotWaits plots the p99 of each span of a trial, at its beginning.
func (t *trial) plotWaits(f flown, s stream, span, length time.Duration) {
	for at := time.Duration(0); at < length; at += span {
		if w := f.waits(s, f.begun.Add(at), f.begun.Add(at+span)); len(w) > 0 {
			t.plot("p99", at.Seconds(), quantile(w, 0.99))
		}
	}
}
