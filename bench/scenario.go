package main

import (
	"context"
	"slices"
)

// scenario is one question: contenders that do the same work, what is measured of each, and what this must come to.
type scenario struct {
	name       string
	about      string
	contenders []contender
	metrics    []metric
	budgets    []budget
	charts     []chart

	roundsMax int  // the most rounds that it makes, for one whose trials are long; 0: as many as are asked for
	noWarmUp  bool // for one whose trials last so long that their beginning does not count
}

// contender is one way to do the work.
type contender struct {
	name  string
	about string
	run   runner
	at    float64 // where it stands on the x axis of a chart of a metric: the amount in which contenders differ
}

// chart is a drawing of a scenario for the report: of a curve that its trials plotted, or of a metric against what the
// contenders differ in.
type chart struct {
	title, xTitle, yTitle string // with their units
	curve                 string // a line for each contender: this curve of the round whose main metric is the median
	metric                string // or a point for each contender: its median at x = its at, with min..max as a bar
	logX                  bool
	contenders            []string // those to draw; all of them when empty
}

// runner makes one trial: it prepares, measures, and checks that the work was done.
type runner func(ctx context.Context, t *trial) (sample, error)

// metric is one figure of a sample. The first of a scenario is the one that its progress shows.
type metric struct {
	name   string // as in a sample
	title  string // with its unit, as in the report
	digits int    // after the point
	detail bool   // explains the others: shown without its spread
}

// sample is what one trial measured, by metric. What does not apply to a contender, or cannot be measured on this
// machine, is absent.
type sample map[string]float64

// scenarios returns all there are, in the order in which they run.
func scenarios() []scenario {
	return []scenario{
		drainScenario(), drainManyScenario(), writeScenario(), walScenario(), latencyScenario(), stepsScenario(),
		backlogScenario(), pinnedScenario(), endpointsScenario(), hangScenario(), floodScenario(), memoryScenario(),
		recoveryScenario(), soakScenario(),
	}
}

// scenarioNamed finds one of all there are.
func scenarioNamed(name string) (scenario, bool) {
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		return scenario{}, false
	}
	return all[i], true
}

// size is how much work a trial is to be.
type size int

const (
	warmUp size = iota
	short
	full
)

// pick returns the amount for a trial of this size.
func pick[T any](s size, atWarmUp, atShort, atFull T) T {
	return []T{atWarmUp, atShort, atFull}[s]
}
