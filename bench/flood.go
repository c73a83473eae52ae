package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// The load of the flood scenario: the first endpoint has a backlog, and new messages come for the others.
const (
	floodOthers = 20
	floodRate   = 200                    // messages a second to all of the others, at random times
	floodFar    = 100 * time.Millisecond // how late an endpoint answers that is far away, by and large
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
			metric{name: "neighbour", title: "neighbour's/s", detail: true},
			metric{name: "counted", title: "messages timed", detail: true},
		),
		budgets: []budget{
			{metric: "p99", of: "flood-1M", against: "quiet", atMost: 1.5},
			{metric: "p99", of: "flood-1M", against: "flood-100k"},
			{metric: "p99", of: "flood-1M", against: "busy"},
			{metric: "p99", of: "far-1M", against: "quiet"},
			{metric: "p99", of: "busy", against: "quiet"},
		},
		charts: []chart{
			{title: "Latency beside an endpoint with a backlog", xTitle: "messages waiting for the neighbour", yTitle: "p99, ms", metric: "p99",
				contenders: []string{"quiet", "flood-100k", "flood-1M"}},
		},
		roundsMax: fairnessRoundsMax,
	}
}

// flood is what goes on at the first endpoint.
type flood struct {
	short, full int           // messages that wait for it
	far         time.Duration // how late it answers
	busy        bool          // it gets requests that come from no outbox
}

func floodEpilogue(fl flood) runner {
	return func(ctx context.Context, t *trial) (sample, error) {
		length := floodLength(t.size)
		timed := int(floodRate * length.Seconds())
		backlog := pick(t.size, fl.short/10, fl.short, fl.full)
		config := drainConfig(t.db.schema)
		f, err := t.newFair(ctx, timed, timed+max(backlog, 1), 1+floodOthers, 1, config)
		if err != nil {
			return nil, err
		}
		if fl.far > 0 {
			if err := t.receiver.behave(Behaviour{From: 0, To: 1, SlowPercent: 100, Slow: fl.far / 2, SlowSpread: fl.far}); err != nil {
				return nil, err
			}
		}
		if err := writeOutboxBulk(ctx, t.db, f.to(0, 1), timed, timed+backlog); err != nil {
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
		flown, err := f.measure(ctx, []stream{others}, beside...)
		if err != nil {
			return nil, err
		}
		found, err := flown.floodSample(others, backlog)
		if err != nil || !fl.busy {
			return found, err
		}
		p, err := t.receiver.progress()
		found["neighbour"] = float64(p.Requests-p.Distinct) / flown.used.elapsed
		return found, err
	}
}

// floodSample leaves out what came once the backlog was gone: that says nothing about it.
func (f flown) floodSample(others stream, backlog int) (sample, error) {
	gone := f.begun.Add(time.Hour)
	perSecond, last := f.backlog(others.until)
	if backlog > 0 && !last.IsZero() {
		gone = last
	}
	waits := f.waits(others, f.begun, gone)
	found, err := fairSample(waits, f.used)
	if err != nil {
		return nil, fmt.Errorf("%w: the backlog was gone after %v", err, gone.Sub(f.begun))
	}
	found["counted"] = float64(len(waits))
	if backlog > 0 {
		found["neighbour"] = perSecond
	}
	return found, nil
}

// backlog returns how many of the messages from a number on arrived per second, and when the last one did if all did.
func (f flown) backlog(from int) (perSecond float64, gone time.Time) {
	var first, last, n int64
	for _, at := range f.arrived[from:] {
		if at == 0 {
			continue
		}
		n++
		last = max(last, at)
		if first == 0 || at < first {
			first = at
		}
	}
	if int(n) == len(f.arrived)-from && n > 0 {
		gone = time.Unix(0, last)
	}
	return float64(n) / max(float64(last-first)/1e9, 1e-9), gone
}

// postUntil posts the n-th message again and again, so many at a time, until ctx ends.
func postUntil(ctx context.Context, inFlight int, l load, n int) error {
	p := newPoster(inFlight)
	defer p.close()
	group, groupCtx := errgroup.WithContext(ctx)
	for range inFlight {
		group.Go(func() error {
			body := l.body(n)
			for groupCtx.Err() == nil {
				if err := p.post(groupCtx, l.url(n), int64(n), body); err != nil && groupCtx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
