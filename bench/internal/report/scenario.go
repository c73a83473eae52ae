package report

import "slices"

// Scenario is a scenario as a report needs it: what took part, what was measured, and the budgets.
type Scenario struct {
	Name       string
	About      string
	Contenders []Contender
	Metrics    []Metric
	Budgets    []Budget
	Charts     []Chart
}

// Contender is a contender as a report needs it.
type Contender struct {
	Name  string
	About string
	At    float64 // where it stands on the x axis of a chart of a metric: the amount in which contenders differ
}

// named finds a scenario by its name.
func named(all []Scenario, name string) (Scenario, bool) {
	i := slices.IndexFunc(all, func(sc Scenario) bool { return sc.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}

// Metric is one figure of a sample. The first of a scenario is the one that its progress shows.
type Metric struct {
	Name   string // as in a sample
	Title  string // with its unit, as in the report
	Digits int    // after the point
	Detail bool   // explains the others: shown without its spread
}

// Chart is a drawing of a scenario for the report: of a curve that its trials plotted, or of a metric against what the
// contenders differ in.
type Chart struct {
	Title, XTitle, YTitle string // with their units
	Curve                 string // a line for each contender: this curve of the round whose main metric is the median
	Metric                string // or a point for each contender: its median at x = its at, with min..max as a bar
	LogX                  bool
	Contenders            []string // those to draw; all of them when empty
}
