package report

import (
	"reflect"
	"testing"

	svg "github.com/seed-abbacb8b/epilogue/bench/internal/chart"
)

// chartedScenario has a curve and a metric to draw.
func chartedScenario() Scenario {
	return Scenario{
		Name:       "charted",
		About:      "what charts are for",
		Contenders: []Contender{{Name: "few", At: 10}, {Name: "many", At: 1000}, {Name: "apart"}},
		Metrics:    []Metric{{Name: "rate", Title: "messages/s"}, {Name: "p99", Title: "p99 ms", Digits: 1}},
		Charts: []Chart{
			{Title: "Rate", XTitle: "waiting", YTitle: "messages/s", Metric: "rate", LogX: true, Contenders: []string{"few", "many"}},
			{Title: "Pace", XTitle: "s", YTitle: "messages/s", Curve: "pace"},
			{Title: "Pace of few", XTitle: "s", YTitle: "messages/s", Curve: "pace", Contenders: []string{"few"}},
		},
	}
}

func chartedResults() ScenarioResults {
	of := func(few, many float64) Round {
		return Round{"few": {"rate": few}, "many": {"rate": many}, "apart": {"rate": 1}}
	}
	pace := func(y float64) Curves { return Curves{"pace": {{0, y}, {1, y}}} }
	return ScenarioResults{
		Name:   "charted",
		Rounds: []Round{of(300, 90), of(100, 70), of(200, 80)},
		Curves: []RoundCurves{{"few": pace(30), "many": pace(9)}, {"few": pace(10)}, {"few": pace(20), "many": pace(8)}},
	}
}

func TestAMetricIsDrawnAsOnePointPerContenderWithItsSpread(t *testing.T) {
	t.Parallel()
	sc := chartedScenario()
	want := []svg.Series{{Name: "rate", Points: []svg.Point{{X: 10, Y: 200, Min: 100, Max: 300}, {X: 1000, Y: 80, Min: 70, Max: 90}}}}
	if got := sc.Charts[0].draw(sc, chartedResults()); !reflect.DeepEqual(got.Series, want) || !got.LogX || got.Title != "Rate" {
		t.Errorf("the chart is %+v; want %+v", got, want)
	}
}

func TestACurveComesFromTheRoundWithTheMedianMetric(t *testing.T) {
	t.Parallel()
	sc := chartedScenario()
	line := func(name string, y float64) svg.Series {
		return svg.Series{Name: name, Points: []svg.Point{{X: 0, Y: y, Min: y, Max: y}, {X: 1, Y: y, Min: y, Max: y}}}
	}
	for n, want := range map[int][]svg.Series{1: {line("few", 20), line("many", 8)}, 2: {line("few", 20)}} {
		if got := sc.Charts[n].draw(sc, chartedResults()).Series; !reflect.DeepEqual(got, want) {
			t.Errorf("chart %d: drawn %+v; want %+v", n, got, want)
		}
	}
}

func TestTheMedianRoundIsTheLowerOneOfTwo(t *testing.T) {
	t.Parallel()
	of := func(values ...float64) []Round {
		var rounds []Round
		for _, v := range values {
			rounds = append(rounds, Round{"a": {"rate": v}})
		}
		return rounds
	}
	for _, c := range []struct {
		rounds []Round
		want   int
	}{{of(5), 0}, {of(5, 3), 1}, {of(5, 3, 9), 0}, {of(9, 1, 2, 8), 2}, {nil, -1}, {[]Round{{}, {"a": {"rate": 1}}}, 1}} {
		if got := medianRound(c.rounds, "a", "rate"); got != c.want {
			t.Errorf("%v: round %d; want %d", c.rounds, got, c.want)
		}
	}
}

func TestEveryChartOfAScenarioHasItsOwnFile(t *testing.T) {
	t.Parallel()
	sc := chartedScenario()
	for n, want := range []string{"charted-rate.svg", "charted-pace.svg", "charted-pace-3.svg"} {
		if file := sc.Charts[n].File(sc, n); file != want {
			t.Errorf("the file of chart %d is %s; want %s", n, file, want)
		}
	}
}
