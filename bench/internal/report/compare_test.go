package report

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func comparedScenario() Scenario {
	return Scenario{
		Name:       "drain",
		Contenders: []Contender{{Name: "ours"}, {Name: "ceiling"}},
		Metrics:    []Metric{{Name: "rate", Title: "messages/s"}, {Name: "cpu", Title: "µs", Detail: true}},
		Budgets: []Budget{
			{Metric: "rate", Of: "ours", Against: "ceiling", AtLeast: 0.6},
			{Metric: "rate", Of: "ours", Against: "nobody"},
		},
	}
}

func rates(pairs ...[2]float64) []Round {
	var rounds []Round
	for _, p := range pairs {
		rounds = append(rounds, Round{"ours": {"rate": p[0], "cpu": 1}, "ceiling": {"rate": p[1]}})
	}
	return rounds
}

func TestAComparisonHasTheRatiosFirstAndTheMetricsOfBothRuns(t *testing.T) {
	t.Parallel()
	all := changes(comparedScenario(), rates([2]float64{400, 1000}), rates([2]float64{300, 500}))
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	want := []string{"ours / ceiling, rate", "ours messages/s", "ceiling messages/s"}
	if !reflect.DeepEqual(names, want) {
		t.Fatalf("compared %q; want %q", names, want)
	}
	for i, factor := range []float64{1.5, 0.75, 0.5} { // a slower machine, and a better ratio on it
		if got := all[i].factor(); got < factor-1e-9 || got > factor+1e-9 {
			t.Errorf("%s: factor %v; want %v", all[i].name, got, factor)
		}
	}
}

func TestAChangeIsBeyondTheSpreadOnlyIfTheSpreadsDoNotOverlap(t *testing.T) {
	t.Parallel()
	before := rates([2]float64{100, 1}, [2]float64{120, 1})
	for name, c := range map[string]struct {
		here []Round
		want bool
	}{
		"all above":    {rates([2]float64{121, 1}, [2]float64{130, 1}), true},
		"all below":    {rates([2]float64{80, 1}, [2]float64{99, 1}), true},
		"one shared":   {rates([2]float64{120, 1}, [2]float64{130, 1}), false},
		"lies within":  {rates([2]float64{110, 1}), false},
		"lies around":  {rates([2]float64{90, 1}, [2]float64{140, 1}), false},
		"only touches": {rates([2]float64{100, 1}), false},
	} {
		ch := change{before: summaryOf(before, "ours", "rate"), here: summaryOf(c.here, "ours", "rate")}
		if got := ch.beyondSpread(); got != c.want {
			t.Errorf("%s: is it beyond the spread? got %v; want %v", name, got, c.want)
		}
	}
}

func TestResultsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	wrote := Results{
		Machine: Machine{CPU: "some CPU", Cores: 2, MemoryGiB: 23.5, Go: "go1", Postgres: "15", SyncMS: 0.25},
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 61, Short: true, Rounds: 2,
		Scenarios: []ScenarioResults{{
			Name: "drain", Rounds: rates([2]float64{1, 2}, [2]float64{3, 4}),
			Curves: []RoundCurves{{"ours": Curves{"rate": {{0, 1.5}, {2, 3}}}}, {}},
		}},
	}
	path := filepath.Join(t.TempDir(), "results.json")
	if err := WriteResults(path, wrote); err != nil {
		t.Fatal(err)
	}
	read, err := ReadResults("-compare", path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*read, wrote) {
		t.Errorf("read %+v; want %+v as written", *read, wrote)
	}
}

func TestAComparisonListsWhatItCannotCompare(t *testing.T) {
	t.Parallel()
	earlier := Results{
		Machine: Machine{CPU: "another CPU", Cores: 64}, Short: true,
		Scenarios: []ScenarioResults{{Name: "drain", Rounds: rates([2]float64{400, 1000})}},
	}
	here := Results{
		Machine:   Machine{CPU: "some CPU", Cores: 2},
		Scenarios: []ScenarioResults{{Name: "drain", Rounds: rates([2]float64{300, 500})}},
	}
	var out bytes.Buffer
	PrintComparison(&out, earlier, here, []Scenario{comparedScenario()})
	for _, want := range []string{
		"another machine (another CPU, 64 cores", "one run was short", "ours / ceiling, rate", "beyond the spread",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in the comparison:\n%s", want, out.String())
		}
	}
}
