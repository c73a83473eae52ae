package main

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func comparedScenario() scenario {
	return scenario{
		name:       "drain",
		contenders: []contender{{name: "ours"}, {name: "ceiling"}},
		metrics:    []metric{{name: "rate", title: "messages/s"}, {name: "cpu", title: "µs", detail: true}},
		budgets: []budget{
			{metric: "rate", of: "ours", against: "ceiling", atLeast: 0.6},
			{metric: "rate", of: "ours", against: "nobody"},
		},
	}
}

func rates(pairs ...[2]float64) []round {
	var rounds []round
	for _, p := range pairs {
		rounds = append(rounds, round{"ours": {"rate": p[0], "cpu": 1}, "ceiling": {"rate": p[1]}})
	}
	return rounds
}

func TestAComparisonHasTheRatiosFirstAndWhatBothRunsMeasured(t *testing.T) {
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

func TestAChangeIsBeyondTheSpreadOnlyWhenNoRoundIsShared(t *testing.T) {
	t.Parallel()
	before := rates([2]float64{100, 1}, [2]float64{120, 1})
	for name, c := range map[string]struct {
		here []round
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
			t.Errorf("%s: %v; want %v", name, got, c.want)
		}
	}
}

func TestResultsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	wrote := results{
		Machine: machine{CPU: "some CPU", Cores: 2, MemoryGiB: 23.5, Go: "go1", Postgres: "15", SyncMS: 0.25},
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 61, Short: true, Rounds: 2,
		Scenarios: []scenarioResults{{
			Name: "drain", Rounds: rates([2]float64{1, 2}, [2]float64{3, 4}),
			Curves: []roundCurves{{"ours": curves{"rate": {{0, 1.5}, {2, 3}}}}, {}},
		}},
	}
	path := filepath.Join(t.TempDir(), "results.json")
	if err := writeResults(path, wrote); err != nil {
		t.Fatal(err)
	}
	read, err := readResults("-compare", path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*read, wrote) {
		t.Errorf("read %+v; wrote %+v", *read, wrote)
	}
}

func TestAComparisonSaysWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	earlier := results{
		Machine: machine{CPU: "another CPU", Cores: 64}, Short: true,
		Scenarios: []scenarioResults{{Name: "drain", Rounds: rates([2]float64{400, 1000})}},
	}
	here := results{
		Machine:   machine{CPU: "some CPU", Cores: 2},
		Scenarios: []scenarioResults{{Name: "drain", Rounds: rates([2]float64{300, 500})}},
	}
	var out bytes.Buffer
	printComparison(&out, earlier, here, []scenario{comparedScenario()})
	for _, want := range []string{
		"another machine (another CPU, 64 cores", "one run was short", "ours / ceiling, rate", "beyond the spread",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the comparison does not say %q:\n%s", want, out.String())
		}
	}
}
