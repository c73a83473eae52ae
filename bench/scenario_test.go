package main

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

func TestScenariosAndTheirContendersAreFoundByTheirNames(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, sc := range scenarios() {
		if taken[sc.name] {
			t.Errorf("two scenarios have the name %s", sc.name)
		}
		taken[sc.name] = true
		if found, err := chosen(scenarios(), sc.name); err != nil || found[0].name != sc.name {
			t.Errorf("%s is not found by its name", sc.name)
		}
		contenders := map[string]bool{}
		for _, c := range sc.contenders {
			if contenders[c.name] {
				t.Errorf("%s: two contenders have the name %s", sc.name, c.name)
			}
			contenders[c.name] = true
		}
		if len(sc.metrics) == 0 || len(sc.contenders) == 0 {
			t.Errorf("%s has %d contenders and %d metrics, want some of both", sc.name, len(sc.contenders), len(sc.metrics))
		}
	}
	if _, err := chosen(scenarios(), "nothing"); err == nil {
		t.Error("the unknown name \"nothing\" returns no error, want one")
	}
}

func TestARoundToWarmUpComesBeforeThoseThatCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    options
		sc   scenario
		want bool
	}{
		{options{rounds: 5}, scenario{}, true},
		{options{rounds: 1}, scenario{}, true},
		{options{rounds: 2, short: true}, scenario{}, true},
		{options{rounds: 1, short: true}, scenario{}, false}, // it shows only that everything works
		{options{rounds: 5}, scenario{noWarmUp: true}, false},
	} {
		if got := c.o.warmsUp(c.sc); got != c.want {
			t.Errorf("%+v, %+v: is there a round to warm up? got %v; want %v", c.o, c.sc, got, c.want)
		}
	}
}

func TestALongScenarioMakesFewerRounds(t *testing.T) {
	t.Parallel()
	o := options{rounds: 5}
	for most, want := range map[int]int{0: 5, 2: 2, 5: 5, 9: 5} {
		if got := o.roundsOf(scenario{roundsMax: most}); got != want {
			t.Errorf("at most %d: %d rounds; want %d", most, got, want)
		}
	}
}

func TestEveryBudgetNamesContendersAndAMetricOfItsScenario(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		names, metrics := map[string]bool{"": true}, map[string]bool{}
		for _, name := range contenderNames(sc.contenders) {
			names[name] = true
		}
		for _, m := range sc.metrics {
			metrics[m.Name] = true
		}
		for _, b := range sc.budgets {
			if b.Of == "" || !names[b.Of] || !names[b.Against] || !metrics[b.Metric] {
				t.Errorf("%s: budget %q names a contender or a metric that the scenario does not have", sc.name, b.Name())
			}
			if b.AtLeast != 0 && b.AtMost != 0 {
				t.Errorf("%s: budget %q has two bounds, want one", sc.name, b.Name())
			}
		}
	}
}

func TestEveryChartDrawsMetricsAndContendersOfItsScenario(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		metrics := map[string]bool{"": true}
		for _, m := range sc.metrics {
			metrics[m.Name] = true
		}
		names := map[string]bool{}
		for _, name := range contenderNames(sc.contenders) {
			names[name] = true
		}
		for _, c := range sc.charts {
			if (c.Curve == "") == (c.Metric == "") || !metrics[c.Metric] {
				t.Errorf("%s: chart %q draws the curve %q and the metric %q; want one of them, and one that exists", sc.name, c.Title, c.Curve, c.Metric)
			}
			if c.Title == "" || c.XTitle == "" || c.YTitle == "" {
				t.Errorf("%s: chart %q has the axes %q and %q; want three titles", sc.name, c.Title, c.XTitle, c.YTitle)
			}
			for _, name := range c.Contenders {
				if !names[name] {
					t.Errorf("%s: chart %q draws %q, which is not a contender", sc.name, c.Title, name)
				}
			}
			for _, contender := range sc.contenders {
				if c.LogX && c.Draws(contender.name) && contender.at <= 0 {
					t.Errorf("%s: chart %q cannot place %q at %v on a logarithmic axis", sc.name, c.Title, contender.name, contender.at)
				}
			}
		}
	}
}

func TestEveryPromiseIsMeasuredByAScenarioThatCanBreakIt(t *testing.T) {
	t.Parallel()
	for _, p := range report.Promises() {
		found, err := chosen(scenarios(), p.Scenario)
		if err != nil {
			t.Fatal(err)
		}
		bounds := 0
		for _, b := range found[0].budgets {
			if b.Bounded() {
				bounds++
			}
		}
		if bounds == 0 {
			t.Errorf("%s: scenario %q has %d bounds, want some", p.What, p.Scenario, bounds)
		}
	}
}

func TestEveryChartHasItsOwnFile(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		taken := map[string]bool{}
		for n, c := range sc.charts {
			if file := c.File(sc.describe(), n); taken[file] {
				t.Errorf("%s: two charts have the file %s", sc.name, file)
			} else {
				taken[file] = true
			}
		}
	}
}
