package main

import (
	"testing"
)

// twoRounds have a machine that was half as fast in the second.
func twoRounds() []round {
	return []round{
		{"ours": {"rate": 600, "p99": 30}, "ceiling": {"rate": 1000}},
		{"ours": {"rate": 400, "p99": 50}, "ceiling": {"rate": 500}},
	}
}

func TestARatioIsTakenWithinEachRound(t *testing.T) {
	t.Parallel()
	b := budget{metric: "rate", of: "ours", against: "ceiling", atLeast: 0.6}
	want := summary{median: 0.7, min: 0.6, max: 0.8, n: 2}
	if got := b.evaluate(twoRounds()); got != want {
		t.Errorf("ratio %+v; want %+v", got, want)
	}
}

func TestABudgetIsJudgedByItsMedian(t *testing.T) {
	t.Parallel()
	ratio := budget{metric: "rate", of: "ours", against: "ceiling"}
	absolute := budget{metric: "p99", of: "ours", unit: "ms"}
	for name, c := range map[string]struct {
		budget           budget
		atLeast, atMost  float64
		want             verdict
		wantBoundAsShown string
	}{
		"ratio reached":         {ratio, 0.7, 0, met, "≥ 0.7"},
		"ratio not reached":     {ratio, 0.71, 0, missed, "≥ 0.71"},
		"ratio kept under":      {ratio, 0, 0.7, met, "≤ 0.7"},
		"ratio exceeded":        {ratio, 0, 0.69, missed, "≤ 0.69"},
		"ratio without a bound": {ratio, 0, 0, noVerdict, "–"},
		"figure kept under":     {absolute, 0, 40, met, "≤ 40 ms"},
		"figure exceeded":       {absolute, 0, 39, missed, "≤ 39 ms"},
	} {
		b := c.budget
		b.atLeast, b.atMost = c.atLeast, c.atMost
		if got := b.judge(b.evaluate(twoRounds())); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
		if got := b.bound(); got != c.wantBoundAsShown {
			t.Errorf("%s: bound %q; want %q", name, got, c.wantBoundAsShown)
		}
	}
}

func TestAVerdictThatNotEveryRoundSharesSaysSo(t *testing.T) {
	t.Parallel()
	for bound, want := range map[float64]string{0.6: "", 0.65: ", not in every round", 0.75: ", not in every round", 0.9: ""} {
		b := budget{metric: "rate", of: "ours", against: "ceiling", atLeast: bound}
		if got := b.doubt(b.evaluate(twoRounds())); got != want {
			t.Errorf("at least %v: %q; want %q", bound, got, want)
		}
	}
}

func TestABudgetWhoseContenderDidNotRunIsNotMeasured(t *testing.T) {
	t.Parallel()
	for _, b := range []budget{
		{metric: "rate", of: "ours", against: "nobody", atLeast: 0.1},
		{metric: "rate", of: "nobody", against: "ceiling", atLeast: 0.1},
		{metric: "nothing", of: "ours", atMost: 1},
	} {
		if got := b.judge(b.evaluate(twoRounds())); got != notMeasured {
			t.Errorf("%s: %q; want %q", b.name(), got, notMeasured)
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
			metrics[m.name] = true
		}
		for _, b := range sc.budgets {
			if b.of == "" || !names[b.of] || !names[b.against] || !metrics[b.metric] {
				t.Errorf("%s: budget %q names what the scenario does not have", sc.name, b.name())
			}
			if b.atLeast != 0 && b.atMost != 0 {
				t.Errorf("%s: budget %q has two bounds", sc.name, b.name())
			}
		}
	}
}
