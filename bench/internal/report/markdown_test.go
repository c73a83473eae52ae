package report

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestAReportHasAFileForEachDrawingThatItShows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by it")
	r := Results{Machine: Machine{CPU: "some CPU", Cores: 2}, Scenarios: []ScenarioResults{chartedResults()}}
	if err := WritePage(dir, r, []Scenario{chartedScenario(), comparedScenario()}, nil); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, PageFile))
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`!\[[^]]+\]\(([^)]+)\)`).FindAllStringSubmatch(string(page), -1)
	if len(shown) != 3 {
		t.Errorf("%d drawings are shown; want 3", len(shown))
	}
	for _, s := range shown {
		if text, err := os.ReadFile(filepath.Join(dir, s[1])); err != nil || !strings.Contains(string(text), "<svg ") {
			t.Errorf("the drawing %s: %v, %.20q; want an SVG", s[1], err, text)
		}
	}
	if strings.Contains(string(page), "## drain") {
		t.Error("a scenario that was not run has a section")
	}
	for _, want := range []string{
		"| machine | some CPU, 2 cores", "## charted\n\nWhat charts are for. 3 rounds.",
		"| `few` | 200 [100..300] | – |",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is missing in the report:\n%s", want, page)
		}
	}
}

func TestAReportMarksEachBudgetOfTheDesign(t *testing.T) {
	t.Parallel()
	r := Results{Scenarios: []ScenarioResults{
		{Name: "drain", Rounds: []Round{{
			"epilogue": {"rate": 700}, "bare": {"rate": 1000}, "river": {"rate": 350}, "river-row": {"rate": 100},
		}}},
		{Name: "backlog", Rounds: []Round{{"10M": {"rate": 80}, "100k": {"rate": 100}}}},
	}}
	all := []Scenario{
		{Name: "drain", Budgets: []Budget{
			{Metric: "rate", Of: "epilogue", Against: "bare", AtLeast: 0.6},
			{Metric: "rate", Of: "epilogue", Against: "river", AtLeast: 2},
			{Metric: "rate", Of: "epilogue", Against: "river-row", AtLeast: 5},
		}},
		{Name: "drain-1000", Budgets: []Budget{{Metric: "rate", Of: "epilogue", Against: "bare", AtLeast: 0.5}}},
		{Name: "backlog", Budgets: []Budget{{Metric: "rate", Of: "10M", Against: "100k", AtLeast: 0.9}}},
	}
	page := string(reportPage(r, nil, all))
	for _, want := range []string{
		"epilogue / bare, rate: 0.70<br>epilogue / river, rate: 2.00<br>epilogue / river-row, rate: 7.00 | **met** |",
		"| ≥ 0.9 | 10M / 100k, rate: 0.80 | **MISSED** |",
		"| the same with 1 000 endpoints | ≥ 0.5 | – | not measured |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing in the report:\n%s", want, page)
		}
	}
}

func TestAPromiseIsKeptIfAllItsBoundsAreMet(t *testing.T) {
	t.Parallel()
	sc := Scenario{Budgets: []Budget{
		{Metric: "a", Of: "x", AtMost: 1, Unit: "s"}, {Metric: "b", Of: "x", AtLeast: 1}, {Metric: "c", Of: "x"},
	}}
	for _, c := range []struct {
		found    Sample
		want     verdict
		measured string
	}{
		{Sample{"a": 1, "b": 1, "c": 5}, met, "x a: 1.00 s<br>x b: 1.00"},
		{Sample{"a": 2, "b": 1}, missed, "x a: 2.00 s<br>x b: 1.00"},
		{Sample{"a": 1, "b": 0}, missed, "x a: 1.00 s<br>x b: 0.00"},
		{Sample{"a": 2}, missed, "x a: 2.00 s"},
		{Sample{"a": 1}, metSoFar, "x a: 1.00 s"},
		{Sample{"c": 1}, notMeasured, "–"},
	} {
		measured, v := judgePromise(sc, []Round{{"x": c.found}})
		if v != c.want || measured != c.measured {
			t.Errorf("%v: got %q, %q; want %q, %q", c.found, v, measured, c.want, c.measured)
		}
	}
}

func TestTextInATableIsEscaped(t *testing.T) {
	t.Parallel()
	var p page
	p.row("a | b", "c")
	if want := "| a \\| b | c |\n"; p.String() != want {
		t.Errorf("wrote %q; want %q", p.String(), want)
	}
}
