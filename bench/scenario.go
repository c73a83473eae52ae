package main

import "context"

// scenario is one question: contenders that do the same work, what is measured of each, and what this must come to.
type scenario struct {
	name       string
	about      string
	contenders []contender
	metrics    []metric
	budgets    []budget
}

// contender is one way to do the work.
type contender struct {
	name  string
	about string
	run   runner
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
	return []scenario{drainScenario(), drainManyScenario(), writeScenario(), walScenario(), latencyScenario(), stepsScenario()}
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
