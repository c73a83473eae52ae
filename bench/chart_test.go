package main

import (
	"reflect"
	"testing"

	svg "github.com/seed-abbacb8b/epilogue/bench/internal/chart"
)

// chartedScenario has a curve and a metric to draw.
func chartedScenario() scenario {
	return scenario{
		name:       "charted",
		about:      "what charts are for",
		contenders: []contender{{name: "few", at: 10}, {name: "many", at: 1000}, {name: "apart"}},
		metrics:    []metric{{name: "rate", title: "messages/s"}, {name: "p99", title: "p99 ms", digits: 1}},
		charts: []chart{
			{title: "Rate", xTitle: "waiting", yTitle: "messages/s", metric: "rate", logX: true, contenders: []string{"few", "many"}},
			{title: "Pace", xTitle: "s", yTitle: "messages/s", curve: "pace"},
			{title: "Pace of few", xTitle: "s", yTitle: "messages/s", curve: "pace", contenders: []string{"few"}},
		},
	}
}

func chartedResults() scenarioResults {
	of := func(few, many float64) round {
		return round{"few": {"rate": few}, "many": {"rate": many}, "apart": {"rate": 1}}
	}
	pace := func(y float64) curves { return curves{"pace": {{0, y}, {1, y}}} }
	return scenarioResults{
		Name:   "charted",
		Rounds: []round{of(300, 90), of(100, 70), of(200, 80)},
		Curves: []roundCurves{{"few": pace(30), "many": pace(9)}, {"few": pace(10)}, {"few": pace(20), "many": pace(8)}},
	}
}

func TestAMetricIsDrawnAsOnePointPerContenderWithItsSpread(t *testing.T) {
	t.Parallel()
	sc := chartedScenario()
	want := []svg.Series{{Name: "rate", Points: []svg.Point{{X: 10, Y: 200, Min: 100, Max: 300}, {X: 1000, Y: 80, Min: 70, Max: 90}}}}
	if got := sc.charts[0].draw(sc, chartedResults()); !reflect.DeepEqual(got.Series, want) || !got.LogX || got.Title != "Rate" {
		t.Errorf("drawn %+v; want %+v", got, want)
	}
}

func TestACurveIsThatOfTheRoundWithTheMedianMetric(t *testing.T) {
	t.Parallel()
	sc := chartedScenario()
	line := func(name string, y float64) svg.Series {
		return svg.Series{Name: name, Points: []svg.Point{{X: 0, Y: y, Min: y, Max: y}, {X: 1, Y: y, Min: y, Max: y}}}
	}
	for n, want := range map[int][]svg.Series{1: {line("few", 20), line("many", 8)}, 2: {line("few", 20)}} {
		if got := sc.charts[n].draw(sc, chartedResults()).Series; !reflect.DeepEqual(got, want) {
			t.Errorf("chart %d: drawn %+v; want %+v", n, got, want)
		}
	}
}

func TestTheMedianRoundIsTheLowerOneOfTwo(t *testing.T) {
	t.Parallel()
	of := func(values ...float64) []round {
		var rounds []round
		for _, v := range values {
			rounds = append(rounds, round{"a": {"rate": v}})
		}
		return rounds
	}
	for _, c := range []struct {
		rounds []round
		want   int
	}{{of(5), 0}, {of(5, 3), 1}, {of(5, 3, 9), 0}, {of(9, 1, 2, 8), 2}, {nil, -1}, {[]round{{}, {"a": {"rate": 1}}}, 1}} {
		if got := medianRound(c.rounds, "a", "rate"); got != c.want {
			t.Errorf("%v: round %d; want %d", c.rounds, got, c.want)
		}
	}
}

func TestEveryChartOfAScenarioIsAFileOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, sc := range append(scenarios(), chartedScenario()) {
		taken := map[string]bool{}
		for n, c := range sc.charts {
			if file := c.file(sc, n); taken[file] {
				t.Errorf("%s: two charts are called %s", sc.name, file)
			} else {
				taken[file] = true
			}
		}
	}
}

func TestEveryChartDrawsWhatItsScenarioHas(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		metrics := map[string]bool{"": true}
		for _, m := range sc.metrics {
			metrics[m.name] = true
		}
		names := map[string]bool{}
		for _, name := range contenderNames(sc.contenders) {
			names[name] = true
		}
		for _, c := range sc.charts {
			if (c.curve == "") == (c.metric == "") || !metrics[c.metric] {
				t.Errorf("%s: chart %q draws curve %q and metric %q; want one that there is", sc.name, c.title, c.curve, c.metric)
			}
			if c.title == "" || c.xTitle == "" || c.yTitle == "" {
				t.Errorf("%s: chart %q has axes %q and %q", sc.name, c.title, c.xTitle, c.yTitle)
			}
			for _, name := range c.contenders {
				if !names[name] {
					t.Errorf("%s: chart %q draws %q, which does not take part", sc.name, c.title, name)
				}
			}
			for _, contender := range sc.contenders {
				if c.logX && c.draws(contender.name) && contender.at <= 0 {
					t.Errorf("%s: chart %q cannot place %q at %v on a logarithmic axis", sc.name, c.title, contender.name, contender.at)
				}
			}
		}
	}
}
