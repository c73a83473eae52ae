package main

import (
	"context"
	"fmt"
	"time"
)

// measureAll runs every chosen scenario. With an error, it returns what the scenarios before found.
func measureAll(ctx context.Context, s *stand, o options) (results, error) {
	found := results{Started: time.Now().UTC().Truncate(time.Second), Short: o.short, Rounds: o.rounds}
	var err error
	if found.Machine, err = describeMachine(ctx, s); err != nil {
		return found, err
	}
	for _, sc := range o.scenarios {
		rounds, err := measureScenario(ctx, s, sc, o)
		if err != nil {
			return found, err
		}
		found.Scenarios = append(found.Scenarios, scenarioResults{Name: sc.name, Rounds: rounds})
		found.Seconds = time.Since(found.Started).Round(time.Second).Seconds()
	}
	return found, nil
}

// measureScenario runs the rounds, and before them the warm-up. Each round begins one contender further on, so that none
// always follows the same neighbour.
func measureScenario(ctx context.Context, s *stand, sc scenario, o options) ([]round, error) {
	var rounds []round
	for n := range o.rounds + 1 {
		t := trial{stand: s, size: warmUp}
		if n > 0 {
			t.size, t.profileDir = full, o.cpuProfile
			if o.short {
				t.size = short
			}
		}
		r := round{}
		for i := range sc.contenders {
			c := sc.contenders[(i+n)%len(sc.contenders)]
			t.name = fmt.Sprintf("%s-%s-%d", sc.name, c.name, n)
			begun := time.Now()
			found, err := measureUndisturbed(ctx, t, c, o)
			if err != nil {
				return nil, fmt.Errorf("%s, contender %s: %w", sc.name, c.name, err)
			}
			r[c.name] = found
			m := sc.metrics[0]
			say("%s, %s: %s %s %s; the trial took %v", sc.name, roundName(n, o.rounds), c.name,
				number(found[m.name], m.digits), m.title, time.Since(begun).Round(100*time.Millisecond))
		}
		if n > 0 {
			rounds = append(rounds, r)
		}
	}
	return rounds, nil
}

// triesMax bounds how often -wait makes a trial that others disturbed. The last one counts, disturbed or not.
const triesMax = 3

// measureUndisturbed makes a trial when the machine is quiet, and again when it did not stay so, as far as -wait allows.
func measureUndisturbed(ctx context.Context, t trial, c contender, o options) (found sample, err error) {
	for try := 1; ; try++ {
		if err := waitUntilQuiet(ctx, o.wait); err != nil {
			return nil, err
		}
		found, err = measureTrial(ctx, t, c)
		if err != nil || o.wait == 0 || t.size == warmUp || !found.disturbed() || try == triesMax {
			return found, err
		}
		say("%s: others used %.0f %% of the machine; once more", t.name, found[othersMetric])
	}
}

func roundName(n, rounds int) string {
	if n == 0 {
		return "warm-up"
	}
	return fmt.Sprintf("round %d of %d", n, rounds)
}
