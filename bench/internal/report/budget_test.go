package report

import "testing"

// twoRounds returns two rounds. In the second the machine was half as fast.
func twoRounds() []Round {
	return []Round{
		{"ours": {"rate": 600, "p99": 30, "late": -0.2}, "ceiling": {"rate": 1000}},
		{"ours": {"rate": 400, "p99": 50, "late": -0.1}, "ceiling": {"rate": 500}},
	}
}

func TestARatioComparesResultsOfTheSameRound(t *testing.T) {
	t.Parallel()
	b := Budget{Metric: "rate", Of: "ours", Against: "ceiling", AtLeast: 0.6}
	want := summary{median: 0.7, min: 0.6, max: 0.8, n: 2}
	if got := b.evaluate(twoRounds()); got != want {
		t.Errorf("the ratio is %+v; want %+v", got, want)
	}
}

func TestABudgetIsJudgedByItsMedian(t *testing.T) {
	t.Parallel()
	ratio := Budget{Metric: "rate", Of: "ours", Against: "ceiling"}
	absolute := Budget{Metric: "p99", Of: "ours", Unit: "ms"}
	for name, c := range map[string]struct {
		budget           Budget
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
		"less than nothing":     {Budget{Metric: "late", Of: "ours", Unit: "s"}, 0, 2, met, "≤ 2 s"},
		"figure exceeded":       {absolute, 0, 39, missed, "≤ 39 ms"},
	} {
		b := c.budget
		b.AtLeast, b.AtMost = c.atLeast, c.atMost
		if got := b.judge(b.evaluate(twoRounds())); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
		if got := b.Bound(); got != c.wantBoundAsShown {
			t.Errorf("%s: bound %q; want %q", name, got, c.wantBoundAsShown)
		}
	}
}

func TestAVerdictNamesItsDoubtIfARoundDisagrees(t *testing.T) {
	t.Parallel()
	for bound, want := range map[float64]string{0.6: "", 0.65: ", not in every round", 0.75: ", not in every round", 0.9: ""} {
		b := Budget{Metric: "rate", Of: "ours", Against: "ceiling", AtLeast: bound}
		if got := b.doubt(b.evaluate(twoRounds())); got != want {
			t.Errorf("at least %v: %q; want %q", bound, got, want)
		}
	}
}

func TestABudgetWhoseContenderDidNotRunIsNotMeasured(t *testing.T) {
	t.Parallel()
	for _, b := range []Budget{
		{Metric: "rate", Of: "ours", Against: "nobody", AtLeast: 0.1},
		{Metric: "rate", Of: "nobody", Against: "ceiling", AtLeast: 0.1},
		{Metric: "nothing", Of: "ours", AtMost: 1},
	} {
		if got := b.judge(b.evaluate(twoRounds())); got != notMeasured {
			t.Errorf("%s: %q; want %q", b.Name(), got, notMeasured)
		}
	}
}
