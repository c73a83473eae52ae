package report

import (
	"fmt"
	"io"
	"math"
)

// change is one figure in two runs.
type change struct {
	name         string
	digits       int
	before, here summary
}

// factor is what the figure was multiplied by.
func (c change) factor() float64 { return c.here.median / c.before.median }

// beyondSpread reports a change that no round of one run shared with the other.
func (c change) beyondSpread() bool { return !c.before.overlaps(c.here) }

// changes lists every figure and ratio that both runs measured, the ratios first: they are the result.
func changes(sc Scenario, before, here []Round) []change {
	var all []change
	add := func(c change) {
		if c.before.n > 0 && c.here.n > 0 {
			all = append(all, c)
		}
	}
	for _, b := range sc.Budgets {
		if b.Against != "" {
			add(change{name: b.Name(), digits: 2, before: b.evaluate(before), here: b.evaluate(here)})
		}
	}
	for _, c := range sc.Contenders {
		for _, m := range sc.Metrics {
			if m.Detail {
				continue
			}
			add(change{
				name: c.Name + " " + m.Title, digits: m.Digits,
				before: summaryOf(before, c.Name, m.Name), here: summaryOf(here, c.Name, m.Name),
			})
		}
	}
	return all
}

// PrintComparison prints each figure of the scenarios that ran, in an earlier run and in this one.
func PrintComparison(out io.Writer, earlier, here Results, ran []Scenario) {
	_, _ = fmt.Fprintf(out, "\ncompared with %s:\n", earlier.Started.Format("2006-01-02 15:04 MST"))
	if !earlier.Machine.same(here.Machine) {
		_, _ = fmt.Fprintf(out, "  another machine (%s, %d cores, %s, Postgres %s): only the ratios can be compared\n",
			earlier.Machine.CPU, earlier.Machine.Cores, earlier.Machine.Go, earlier.Machine.Postgres)
	}
	if earlier.Short != here.Short {
		_, _ = fmt.Fprintln(out, "  one run was short and the other was not: they did not do the same work")
	}
	for _, sc := range ran {
		all := changes(sc, earlier.scenario(sc.Name).Rounds, here.scenario(sc.Name).Rounds)
		if len(all) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(out, "\n%s\n\n", sc.Name)
		w := table(out)
		_, _ = fmt.Fprintln(w, "  figure\tthen\tnow\tfactor\t")
		for _, c := range all {
			_, _ = fmt.Fprintf(w, "  %s\t%s %s\t%s %s\t%s\t%s\n", c.name,
				Number(c.before.median, c.digits), spread(c.before, c.digits),
				Number(c.here.median, c.digits), spread(c.here, c.digits), Number(finite(c.factor()), 2), c.remark())
		}
		_ = w.Flush()
	}
}

func (c change) remark() string {
	if c.beyondSpread() {
		return "beyond the spread"
	}
	return ""
}

func finite(v float64) float64 {
	if math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}
