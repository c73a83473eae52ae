package main

import (
	"context"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// scenario is one question: contenders that do the same work, what is measured of each, and the budgets.
type scenario struct {
	name       string
	about      string
	contenders []contender
	metrics    []report.Metric
	budgets    []report.Budget
	charts     []report.Chart

	roundsMax int  // the most rounds, for a scenario with long trials; 0: as many as are asked for
	noWarmUp  bool // for a scenario with trials so long that their beginning does not matter
}

// contender is one way to do the work.
type contender struct {
	name  string
	about string
	run   runner
	at    float64 // where it stands on the x axis of a chart of a metric: the amount in which contenders differ
}

// describe returns what a report needs of a scenario, without the code that runs.
func (sc scenario) describe() report.Scenario {
	d := report.Scenario{Name: sc.name, About: sc.about, Metrics: sc.metrics, Budgets: sc.budgets, Charts: sc.charts}
	for _, c := range sc.contenders {
		d.Contenders = append(d.Contenders, report.Contender{Name: c.name, About: c.about, At: c.at})
	}
	return d
}

// describeAll describes each of many.
func describeAll(all []scenario) []report.Scenario {
	var ds []report.Scenario
	for _, sc := range all {
		ds = append(ds, sc.describe())
	}
	return ds
}

// runner makes one trial: it prepares, measures, and checks that the work was done.
type runner func(ctx context.Context, t *trial) (report.Sample, error)

// scenarios returns all there are, in the order in which they run.
func scenarios() []scenario {
	return []scenario{
		drainScenario(), drainManyScenario(), metricsScenario(), tracingScenario(), writeScenario(), walScenario(), latencyScenario(), stepsScenario(),
		backlogScenario(), pinnedScenario(), endpointsScenario(), hangScenario(), floodScenario(), sharedScenario(), hostileScenario(), farScenario(), memoryScenario(),
		recoveryScenario(), soakScenario(),
	}
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
