package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// measureAll runs every chosen scenario; the others run even if one fails. The results are kept after
// each, in case a run of an hour ends early.
func measureAll(
	ctx context.Context, s *stand.Stand, o options, keep func(report.Results) error,
) (report.Results, error) {
	found := report.Results{Started: time.Now().UTC().Truncate(time.Second), Short: o.short, Rounds: o.rounds}
	around, err := s.Machine(ctx)
	if err != nil {
		return found, err
	}
	found.Machine = report.Machine(around)
	var failed error
	for _, sc := range o.scenarios {
		of, err := measureScenario(ctx, s, sc, o)
		found.Seconds = time.Since(found.Started).Round(time.Second).Seconds()
		if err != nil {
			failed = errors.Join(failed, err)
			if ctx.Err() != nil {
				return found, failed
			}
			say("%v", err)
			continue
		}
		found.Scenarios = append(found.Scenarios, of)
		failed = errors.Join(failed, keep(found))
	}
	return found, failed
}

// measureScenario runs the rounds, and before them the warm-up.
func measureScenario(ctx context.Context, s *stand.Stand, sc scenario, o options) (report.ScenarioResults, error) {
	all := report.ScenarioResults{Name: sc.name}
	first, last := 0, o.roundsOf(sc)
	if !o.warmsUp(sc) {
		first = 1
	}
	plotted := false
	var ofRounds []report.RoundCurves
	for n := first; n <= last; n++ {
		r, c, err := measureRound(ctx, trial{Trial: stand.Trial{Stand: s}, size: o.sizeOf(n)}, sc, n, o)
		if err != nil {
			return all, err
		}
		if n > 0 {
			all.Rounds = append(all.Rounds, r)
			ofRounds = append(ofRounds, c)
			plotted = plotted || len(c) > 0
		}
	}
	if plotted {
		all.Curves = ofRounds
	}
	return all, nil
}

// measureRound makes a trial of each contender. Each round begins with the next contender, so that none always runs at the
// same place.
func measureRound(ctx context.Context, t trial, sc scenario, n int, o options) (report.Round, report.RoundCurves, error) {
	r, plotted := report.Round{}, report.RoundCurves{}
	for i := range sc.contenders {
		c := sc.contenders[(i+n)%len(sc.contenders)]
		t.Name = fmt.Sprintf("%s-%s-%d", sc.name, c.name, n)
		if n > 0 {
			t.ProfileDir = o.cpuProfile
		}
		begun := time.Now()
		found, err := measureUndisturbed(ctx, t, c, o)
		if err != nil {
			return nil, nil, fmt.Errorf("%s, contender %s: %w", sc.name, c.name, err)
		}
		r[c.name] = found.figures
		if len(found.curves) > 0 {
			plotted[c.name] = found.curves
		}
		m := sc.metrics[0]
		say("%s, %s: %s %s %s; the trial took %v", sc.name, roundName(n, o.roundsOf(sc)), c.name,
			report.Number(valueIn(found.figures, m.Name), m.Digits), m.Title, time.Since(begun).Round(100*time.Millisecond))
	}
	return r, plotted, nil
}

// valueIn is NaN, and so a dash, where a contender does not measure the metric.
func valueIn(s report.Sample, metric string) float64 {
	if v, ok := s[metric]; ok {
		return v
	}
	return math.NaN()
}

// roundsOf is how many rounds of a scenario count.
func (o options) roundsOf(sc scenario) int {
	if sc.roundsMax > 0 {
		return min(o.rounds, sc.roundsMax)
	}
	return o.rounds
}

// warmsUp reports whether a round that does not count comes first. A single short round only checks that everything works.
func (o options) warmsUp(sc scenario) bool { return !sc.noWarmUp && !(o.short && o.rounds == 1) }

// sizeOf is how much work the trials of the n-th round are; the one before the first is the warm-up.
func (o options) sizeOf(n int) size {
	switch {
	case n == 0:
		return warmUp
	case o.short:
		return short
	}
	return full
}

// triesMax bounds how often -wait makes a trial that others disturbed. The last one counts, disturbed or not.
const triesMax = 3

// measureUndisturbed makes a trial when the machine is quiet, and again when it did not stay so, as far as -wait allows.
func measureUndisturbed(ctx context.Context, t trial, c contender, o options) (found measurement, err error) {
	for try := 1; ; try++ {
		if err := stand.WaitUntilQuiet(ctx, o.wait); err != nil {
			return found, err
		}
		found, err = measureTrial(ctx, t, c)
		if err != nil || o.wait == 0 || t.size == warmUp || !found.figures.Disturbed() || try == triesMax {
			return found, err
		}
		say("%s: others used %.0f %% of the machine; once more", t.Name, found.figures[report.OthersMetric])
	}
}

func roundName(n, rounds int) string {
	if n == 0 {
		return "warm-up"
	}
	return fmt.Sprintf("round %d of %d", n, rounds)
}
