package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// The load of the hang scenario: far below what a worker can deliver, and more than enough for 30 endpoints that never
// answer to take all its slots if nothing prevented that.
const (
	hangEndpoints   = 100
	hangingOfThem   = 30   // those with the first indexes
	hangRate        = 1000 // messages a second to all of them, at random times
	hangRateOfTimed = hangRate * (hangEndpoints - hangingOfThem) / hangEndpoints
)

// hangForm is how long a trial is.
type hangForm struct {
	length   time.Duration
	timeout  time.Duration // of a request; what is committed before two of them have passed does not count
	perPoint time.Duration // of the curve
}

func hangFormOf(s size) hangForm {
	return pick(s,
		hangForm{length: 600 * time.Millisecond, timeout: 100 * time.Millisecond, perPoint: 100 * time.Millisecond},
		hangForm{length: 2 * time.Second, timeout: 200 * time.Millisecond, perPoint: 100 * time.Millisecond},
		hangForm{length: 40 * time.Second, timeout: 2 * time.Second, perPoint: time.Second})
}

// hangScenario: what endpoints that never answer cost the others.
func hangScenario() scenario {
	return scenario{
		name: "hang",
		about: fmt.Sprintf("from the commit's return to the receiver, %d messages/s to %d endpoints; of the %d that always answer, "+
			"after two timeouts of %v", hangRate, hangEndpoints, hangEndpoints-hangingOfThem, hangFormOf(full).timeout),
		contenders: []contender{
			{name: "healthy", about: "every endpoint answers", run: hangEpilogue(false)},
			{name: "hanging", about: fmt.Sprintf("%d of them never answer", hangingOfThem), run: hangEpilogue(true)},
		},
		metrics: fairMetrics(
			report.Metric{Name: "hanging_most", Title: "hanging at once", Detail: true},
			report.Metric{Name: "hanging_share", Title: "% of slots", Digits: 1, Detail: true},
			report.Metric{Name: "timeouts", Title: "timeouts", Detail: true},
			report.Metric{Name: "opened", Title: "opened", Detail: true},
		),
		budgets: []report.Budget{
			{Metric: "p99", Of: "hanging", Against: "healthy", AtMost: 1.2},
			{Metric: "p50", Of: "hanging", Against: "healthy"},
		},
		charts: []report.Chart{
			{Title: "Latency of endpoints beside 30 % that hang", XTitle: "s", YTitle: "p99 ms", Curve: "p99"},
			{Title: "Requests that hang", XTitle: "s", YTitle: "requests", Curve: "hanging", Contenders: []string{"hanging"}},
		},
		roundsMax: fairnessRoundsMax,
	}
}

func hangEpilogue(hang bool) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		form := hangFormOf(t.size)
		timed := int(hangRateOfTimed * form.length.Seconds())
		messages := int(hangRate * form.length.Seconds())
		config := drainConfig(t.DB.Schema)
		config.DeliveryTimeout = form.timeout
		f, err := t.newFair(ctx, timed, messages, hangEndpoints, hangingOfThem, config)
		if err != nil {
			return nil, err
		}
		var watch []func(context.Context) error
		if hang {
			if err := t.Receiver.Behave(stand.Behaviour{From: 0, To: hangingOfThem, Hang: true}); err != nil {
				return nil, err
			}
			watch = append(watch, func(ctx context.Context) error { return t.plotHanging(ctx, form.perPoint) })
		}
		others, err := f.stream(ctx, f.to(hangingOfThem, hangEndpoints), 0, timed, hangRateOfTimed)
		if err != nil {
			return nil, err
		}
		hanging, err := f.stream(ctx, f.to(0, hangingOfThem), timed, messages, hangRate-hangRateOfTimed)
		if err != nil {
			return nil, err
		}
		flown, err := f.measure(ctx, []stand.Stream{others, hanging}, watch...)
		if err != nil {
			return nil, err
		}
		t.plotWaits(flown, others, form.perPoint, form.length)
		found, err := fairSample(waitsOf(flown, others, flown.Begun.Add(2*form.timeout), flown.Begun.Add(time.Hour)), flown.Used)
		if err != nil || !hang {
			return found, err
		}
		return found, t.addHanging(ctx, found, config.MaxInFlight)
	}
}

// plotHanging looks at how many requests hang, until ctx ends.
func (t *trial) plotHanging(ctx context.Context, every time.Duration) error {
	begun := time.Now()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		p, err := t.Receiver.Progress()
		if err != nil {
			return err
		}
		t.Plot("hanging", time.Since(begun).Seconds(), float64(p.Hanging))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// addHanging adds what happened to the requests that hung.
func (t *trial) addHanging(ctx context.Context, found report.Sample, slots int) error {
	p, err := t.Receiver.Progress()
	if err != nil {
		return err
	}
	timeouts, err := stand.One[float64](ctx, t.DB, "SELECT count(*) FROM bench.attempt WHERE class = 'timeout'")
	if err != nil {
		return err
	}
	opened, err := stand.One[float64](ctx, t.DB, "SELECT count(*) FROM bench.endpoint WHERE openings > 0")
	if err != nil {
		return err
	}
	if timeouts == 0 {
		return errors.New("no request timed out, so none hung")
	}
	found["hanging_most"], found["hanging_share"] = float64(p.HangingMax), float64(p.HangingMax)/float64(slots)*100
	found["timeouts"], found["opened"] = timeouts, opened
	return nil
}
