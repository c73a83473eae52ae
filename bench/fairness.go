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

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// The scenarios of fairness time the new messages of some endpoints while a neighbour makes trouble. Their trials write
// for a fixed time, and not a fixed amount, so that a slow contender cannot make a trial longer.

// fairnessRoundsMax bounds the rounds, because each takes minutes.
const fairnessRoundsMax = 3

// fairWriters is how many connections each stream of new messages comes over.
const fairWriters = 6

// fairMetrics are of the timed messages only.
func fairMetrics(details ...report.Metric) []report.Metric {
	metrics := []report.Metric{
		{Name: "p99", Title: "p99 ms", Digits: 1},
		{Name: "p50", Title: "p50 ms", Digits: 1},
		{Name: "max", Title: "max ms", Digits: 1},
	}
	metrics = append(metrics, details...)
	return append(metrics,
		report.Metric{Name: "sender", Title: "sender %", Detail: true},
		report.Metric{Name: "postgres", Title: "Postgres %", Detail: true},
		report.Metric{Name: "receiver", Title: "receiver %", Detail: true},
		report.Metric{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
	)
}

// fair is a trial of fairness.
type fair struct {
	*trial

	all     stand.Load // every message; those of the timed stream come first, and they alone are awaited
	drainer stand.Drainer
	closed  []func() // what ends with the trial
}

// newFair prepares a trial of timed messages, and others, to endpoints, of which the timed ones are
// those from the index.
func (t *trial) newFair(ctx context.Context, timed, messages, endpoints, timedFrom int, config worker.Config) (f *fair, err error) {
	if err := t.DB.MigrateOutbox(ctx); err != nil {
		return nil, err
	}
	f = &fair{trial: t, all: stand.Load{Messages: messages}}
	if f.all.URLs, err = t.Receiver.Open(endpoints); err != nil {
		return nil, err
	}
	if err := f.prepare(ctx, timed, config); err != nil {
		return nil, err
	}
	origins, err := f.to(timedFrom, endpoints).Endpoints()
	f.drainer.Done = func(ctx context.Context) (bool, error) {
		return stand.One[bool](ctx, t.DB, "SELECT NOT EXISTS (SELECT FROM bench.due WHERE endpoint = ANY ($1))", origins)
	}
	return f, err
}

// newShared is newFair for URLs at one origin, of which the timed messages go to the first.
func (t *trial) newShared(ctx context.Context, timed, messages, urls int, config worker.Config) (f *fair, err error) {
	if err := t.DB.MigrateOutbox(ctx); err != nil {
		return nil, err
	}
	f = &fair{trial: t, all: stand.Load{Messages: messages}}
	if f.all.URLs, err = t.Receiver.OpenShared(urls); err != nil {
		return nil, err
	}
	if err := f.prepare(ctx, timed, config); err != nil {
		return nil, err
	}
	runs := make([]string, timed)
	for n := range runs {
		runs[n] = stand.RunID(n)
	}
	f.drainer.Done = func(ctx context.Context) (bool, error) {
		return stand.One[bool](ctx, t.DB,
			"SELECT NOT EXISTS (SELECT FROM bench.message m JOIN bench.due d ON d.message_id = m.id WHERE m.run_id = ANY ($1))", runs)
	}
	return f, nil
}

// prepare tells the receiver what comes, and makes the worker.
func (f *fair) prepare(ctx context.Context, timed int, config worker.Config) (err error) {
	if f.all.Trial, err = f.Receiver.ExpectFirst(timed, f.all.Messages); err != nil {
		return err
	}
	// Circuit breakers that open are what these trials are about, and at their end no awaited requests are left.
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	config.ShutdownTimeout = 100 * time.Millisecond
	f.drainer, err = f.newEpilogue(ctx, config)
	return err
}

// to is the load of the endpoints with the indexes first to last-1.
func (f *fair) to(first, last int) stand.Load {
	l := f.all
	l.URLs = l.URLs[first:last]
	return l
}

// stream is a stream of a load's messages from..until-1.
func (f *fair) stream(ctx context.Context, l stand.Load, from, until, rate int) (stand.Stream, error) {
	write, closed, err := f.FairWriter(ctx, l)
	if err == nil {
		f.closed = append(f.closed, closed)
	}
	return stand.Stream{Load: l, From: from, Until: until, Rate: rate, Writers: fairWriters, Write: write}, err
}

// measure sends the streams, of which the first is the timed one, and checks that its messages are recorded, each by
// one attempt.
func (f *fair) measure(ctx context.Context, streams []stand.Stream, beside ...func(context.Context) error) (stand.Flown, error) {
	found, err := f.Fly(ctx, f.drainer, streams, beside...)
	for _, closed := range f.closed {
		closed()
	}
	if err != nil {
		return found, err
	}
	timed := streams[0]
	n, err := stand.One[int](ctx, f.DB, "SELECT count(*) FROM bench.attempt a JOIN bench.message m ON m.id = a.message_id "+
		"WHERE a.class = 'delivered' AND m.url = ANY ($1)", timed.URLs)
	if err == nil && n != timed.Until {
		err = fmt.Errorf("%d attempts to the timed URLs are recorded as delivered; want %d", n, timed.Until)
	}
	return found, err
}

// waitsOf returns the times of those messages of a stream that were committed in [from, until), in order. The first message of a
// trial is left out: it waited for the start.
func waitsOf(f stand.Flown, s stand.Stream, from, until time.Time) []float64 {
	var w []float64
	for n := max(s.From, 1); n < s.Until; n++ {
		if at := f.Committed[n]; !at.Before(from) && at.Before(until) {
			w = append(w, f.Wait(n))
		}
	}
	slices.Sort(w)
	return w
}

// fairSample summarises the waits, and says what share of all cores each process had.
func fairSample(waits []float64, used stand.CPUUse) (report.Sample, error) {
	if len(waits) == 0 {
		return nil, errors.New("no message was committed in the time that counts")
	}
	found := report.Sample{"p50": report.Quantile(waits, 0.5), "p99": report.Quantile(waits, 0.99), "max": waits[len(waits)-1]}
	if used.Known {
		percent := func(seconds float64) float64 { return seconds / (used.Elapsed * float64(runtime.NumCPU())) * 100 }
		found["sender"], found["postgres"], found["receiver"] = percent(used.Self), percent(used.Postgres), percent(used.Receiver)
		found[report.OthersMetric] = used.OthersPercent()
	}
	return found, nil
}

// plotWaits plots the p99 of each span of a trial, at its beginning.
func (t *trial) plotWaits(f stand.Flown, s stand.Stream, span, length time.Duration) {
	for at := time.Duration(0); at < length; at += span {
		if w := waitsOf(f, s, f.Begun.Add(at), f.Begun.Add(at+span)); len(w) > 0 {
			t.Plot("p99", at.Seconds(), report.Quantile(w, 0.99))
		}
	}
}
