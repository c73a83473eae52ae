package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// The load of the flood scenario: the first endpoint has a backlog, and new messages come for the others.
const (
	floodOthers = 20
	floodRate   = 200                    // messages a second to all of the others, at random times
	floodFar    = 100 * time.Millisecond // how late a distant endpoint answers, on average
)

func floodLength(s size) time.Duration {
	return pick(s, 500*time.Millisecond, 1500*time.Millisecond, 20*time.Second)
}

// floodScenario: what a backlog costs the neighbours of its endpoint.
//
// The receiver answers at once, so a backlog is drained as fast as the machine can, and the new messages queue for its
// processors as well as for slots and for their turn. Two contenders tell these apart: busy has that queue and nothing
// else, and far has all but that queue.
func floodScenario() scenario {
	const million, hundredThousand = 1_000_000, 100_000
	return scenario{
		name: "flood",
		about: fmt.Sprintf("from the commit's return to the receiver, %d new messages/s to %d endpoints while another has a backlog "+
			"(with -short a smaller one)", floodRate, floodOthers),
		contenders: []contender{
			{name: "quiet", about: "no backlog", run: floodEpilogue(flood{})},
			{name: "flood-100k", about: "one endpoint has 100 000 messages waiting", at: hundredThousand,
				run: floodEpilogue(flood{short: 10_000, full: hundredThousand})},
			{name: "flood-1M", about: "one endpoint has 1 000 000 messages waiting", at: million,
				run: floodEpilogue(flood{short: 20_000, full: million})},
			{name: "far-1M", about: fmt.Sprintf("the same, and that endpoint answers after %v: every slot of its share is taken, "+
				"and the processors are not", floodFar), run: floodEpilogue(flood{short: 20_000, full: million, far: floodFar})},
			{name: "busy", about: "no backlog, but a bare POST loop to that endpoint, with as many requests at once: " +
				"what queueing for the processors costs", run: floodEpilogue(flood{busy: true})},
		},
		metrics: fairMetrics(
			report.Metric{Name: "neighbour", Title: "neighbour's/s", Detail: true},
			report.Metric{Name: "counted", Title: "messages timed", Detail: true},
		),
		budgets: []report.Budget{
			{Metric: "p99", Of: "flood-1M", Against: "quiet", AtMost: 1.5},
			{Metric: "p99", Of: "flood-1M", Against: "flood-100k"},
			{Metric: "p99", Of: "flood-1M", Against: "busy"},
			{Metric: "p99", Of: "far-1M", Against: "quiet"},
			{Metric: "p99", Of: "busy", Against: "quiet"},
		},
		charts: []report.Chart{
			{Title: "Latency beside an endpoint with a backlog", XTitle: "messages waiting for the neighbour", YTitle: "p99, ms", Metric: "p99",
				Contenders: []string{"quiet", "flood-100k", "flood-1M"}},
		},
		roundsMax: fairnessRoundsMax,
	}
}

// flood describes the load of the first endpoint.
type flood struct {
	short, full int           // messages that wait for it
	far         time.Duration // how late it answers
	busy        bool          // it gets requests that come from no outbox
}

func floodEpilogue(fl flood) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		length := floodLength(t.size)
		timed := int(floodRate * length.Seconds())
		backlog := pick(t.size, fl.short/10, fl.short, fl.full)
		config := drainConfig(t.DB.Schema)
		f, err := t.newFair(ctx, timed, timed+max(backlog, 1), 1+floodOthers, 1, config)
		if err != nil {
			return nil, err
		}
		if fl.far > 0 {
			if err := t.Receiver.Behave(stand.Behaviour{From: 0, To: 1, SlowPercent: 100, Slow: fl.far / 2, SlowSpread: fl.far}); err != nil {
				return nil, err
			}
		}
		if err := stand.WriteBacklog(ctx, t.DB, f.to(0, 1), timed, timed+backlog); err != nil {
			return nil, err
		}
		others, err := f.stream(ctx, f.to(1, 1+floodOthers), 0, timed, floodRate)
		if err != nil {
			return nil, err
		}
		var beside []func(context.Context) error
		if fl.busy {
			beside = append(beside, func(ctx context.Context) error {
				return postUntil(ctx, config.EndpointMaxInFlight, f.to(0, 1), timed)
			})
		}
		flown, err := f.measure(ctx, []stand.Stream{others}, beside...)
		if err != nil {
			return nil, err
		}
		found, err := floodSample(flown, others, backlog)
		if err != nil || !fl.busy {
			return found, err
		}
		p, err := t.Receiver.Progress()
		found["neighbour"] = float64(p.Requests-p.Distinct) / flown.Used.Elapsed
		return found, err
	}
}

// floodSample leaves out what came once the backlog was gone: that says nothing about it.
func floodSample(f stand.Flown, others stand.Stream, backlog int) (report.Sample, error) {
	gone := f.Begun.Add(time.Hour)
	perSecond, last := pace(f, others.Until)
	if backlog > 0 && !last.IsZero() {
		gone = last
	}
	waits := waitsOf(f, others, f.Begun, gone)
	found, err := fairSample(waits, f.Used)
	if err != nil {
		return nil, fmt.Errorf("%w: the backlog was gone after %v", err, gone.Sub(f.Begun))
	}
	found["counted"] = float64(len(waits))
	if backlog > 0 {
		found["neighbour"] = perSecond
	}
	return found, nil
}

// pace returns how many of the messages from a number on arrived per second, and when the last one did if all did.
func pace(f stand.Flown, from int) (perSecond float64, gone time.Time) {
	var first, last, n int64
	for _, at := range f.Arrived[from:] {
		if at == 0 {
			continue
		}
		n++
		last = max(last, at)
		if first == 0 || at < first {
			first = at
		}
	}
	if int(n) == len(f.Arrived)-from && n > 0 {
		gone = time.Unix(0, last)
	}
	return float64(n) / max(float64(last-first)/1e9, 1e-9), gone
}

// postUntil posts the n-th message again and again, several at a time, until ctx ends.
func postUntil(ctx context.Context, inFlight int, l stand.Load, n int) error {
	p := stand.NewPoster(inFlight)
	defer p.Close()
	group, groupCtx := errgroup.WithContext(ctx)
	for range inFlight {
		group.Go(func() error {
			body := l.Body(n)
			for groupCtx.Err() == nil {
				if err := p.Post(groupCtx, l.URL(n), int64(n), body); err != nil && groupCtx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
