package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// The load of the shared scenario: ordinary messages to one URL, and another customer's to another URL at the same origin.
const (
	sharedRate     = 200 // ordinary messages a second, at random times
	strangersRate  = 20
	strangersFirst = 40 // messages of the other customer that wait from the beginning
)

// sharedForm is how long a trial is.
type sharedForm struct{ length, timeout time.Duration }

func sharedFormOf(s size) sharedForm {
	return pick(s,
		sharedForm{500 * time.Millisecond, 100 * time.Millisecond},
		sharedForm{1500 * time.Millisecond, 200 * time.Millisecond},
		sharedForm{20 * time.Second, 2 * time.Second})
}

// stranger is the other customer's URL at the origin.
type stranger struct {
	name, about string
	behaviour   stand.Behaviour
	none        bool // there is no other customer
	backlog     [3]int
	atMost      float64 // times the p99 without the other customer
}

func strangers() []stranger {
	const hour = 3600
	return []stranger{
		{name: "alone", about: "no other customer", none: true},
		{name: "gone", about: "answers 410", behaviour: stand.Behaviour{Status: http.StatusGone}, atMost: 1.5},
		{name: "later", about: "answers 429 with a Retry-After of an hour",
			behaviour: stand.Behaviour{Status: http.StatusTooManyRequests, RetryAfter: hour}, atMost: 1.5},
		{name: "fails", about: "answers 500", behaviour: stand.Behaviour{Status: http.StatusInternalServerError}, atMost: 1.5},
		{name: "hangs", about: "never answers", behaviour: stand.Behaviour{Hang: true}, atMost: 2},
		{name: "floods", about: "answers, and 100 000 messages wait for it", backlog: [3]int{500, 10_000, 100_000}, atMost: 1.5},
	}
}

// tenantsSuffix names the contenders whose messages name their tenants.
const tenantsSuffix = "-tenants"

// sharedScenario: what another customer's URL costs an ordinary customer at the same origin.
func sharedScenario() scenario {
	sc := scenario{
		name: "shared",
		about: fmt.Sprintf("from the commit's return to the receiver, %d messages/s to one URL; another customer's, at another path of the same "+
			"origin, are %d and then %d/s; times of those committed after two timeouts of %v, or while a backlog lasts", sharedRate, strangersFirst, strangersRate,
			sharedFormOf(full).timeout),
		metrics: fairMetrics(
			report.Metric{Name: "refused", Title: "other's refused", Detail: true},
			report.Metric{Name: "hanging_most", Title: "hanging at once", Detail: true},
		),
		roundsMax: fairnessRoundsMax,
	}
	for _, suffix := range []string{"", tenantsSuffix} {
		for _, s := range strangers() {
			if s.backlog != [3]int{} && suffix == "" {
				continue // one tenant's messages are served by due time: nothing new comes before the backlog is gone
			}
			c := contender{name: s.name + suffix, about: "the other customer " + s.about, run: sharedEpilogue(s, suffix != "")}
			if s.none {
				c.about = s.about
			}
			if suffix != "" {
				c.about += "; both name their tenants"
			}
			sc.contenders = append(sc.contenders, c)
			if !s.none {
				sc.budgets = append(sc.budgets, report.Budget{Metric: "p99", Of: c.name, Against: "alone" + suffix, AtMost: s.atMost})
			}
		}
	}
	return sc
}

func sharedEpilogue(s stranger, tenants bool) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		form := sharedFormOf(t.size)
		timed := int(sharedRate * form.length.Seconds())
		waiting := max(pick(t.size, s.backlog[0], s.backlog[1], s.backlog[2]), strangersFirst)
		messages := timed + waiting + int(strangersRate*form.length.Seconds())
		config := drainConfig(t.DB.Schema)
		config.DeliveryTimeout = form.timeout
		f, err := t.newShared(ctx, timed, messages, 2, config)
		if err != nil {
			return nil, err
		}
		honest, strange := f.to(0, 1), f.to(1, 2)
		if tenants {
			honest.Tenant, strange.Tenant = "honest", "stranger"
		}
		others, err := f.stream(ctx, honest, 0, timed, sharedRate)
		if err != nil {
			return nil, err
		}
		streams := []stand.Stream{others}
		if !s.none {
			s.behaviour.From, s.behaviour.To = 1, 2
			if err := t.Receiver.Behave(s.behaviour); err != nil {
				return nil, err
			}
			if err := stand.WriteBacklog(ctx, t.DB, strange, timed, timed+waiting); err != nil {
				return nil, err
			}
			more, err := f.stream(ctx, strange, timed+waiting, messages, strangersRate)
			if err != nil {
				return nil, err
			}
			streams = append(streams, more)
		}
		flown, err := f.measure(ctx, streams)
		if err != nil {
			return nil, err
		}
		from, until := flown.Begun.Add(2*form.timeout), flown.Begun.Add(time.Hour)
		if s.backlog != [3]int{} { // messages that came after the backlog was gone do not count
			from = flown.Begun
			if last, all := lastArrival(flown, timed, timed+waiting); all {
				until = last
			}
		}
		return t.sharedSample(flown, waitsOf(flown, others, from, until))
	}
}

// lastArrival returns when the last of the messages from..until-1 arrived, if all did.
func lastArrival(f stand.Flown, from, until int) (last time.Time, all bool) {
	arrived := f.Arrived[from:until]
	if slices.Contains(arrived, 0) {
		return last, false
	}
	return time.Unix(0, slices.Max(arrived)), true
}

func (t *trial) sharedSample(f stand.Flown, waits []float64) (report.Sample, error) {
	found, err := fairSample(waits, f.Used)
	if err != nil {
		return nil, err
	}
	p, err := t.Receiver.Progress()
	found["refused"], found["hanging_most"] = float64(p.Refused), float64(p.HangingMax)
	return found, err
}
