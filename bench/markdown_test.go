package main

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
	r := results{Machine: machine{CPU: "some CPU", Cores: 2}, Scenarios: []scenarioResults{chartedResults()}}
	if err := writeReport(dir, r, []scenario{chartedScenario(), comparedScenario()}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, reportFile))
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`!\[[^]]+\]\(([^)]+)\)`).FindAllStringSubmatch(string(page), -1)
	if len(shown) != 3 {
		t.Errorf("%d drawings are shown; want 3", len(shown))
	}
	for _, s := range shown {
		if text, err := os.ReadFile(filepath.Join(dir, s[1])); err != nil || !strings.HasPrefix(string(text), "<svg ") {
			t.Errorf("%s: %v, %.20q", s[1], err, text)
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
			t.Errorf("the report does not say %q:\n%s", want, page)
		}
	}
}

func TestAReportMarksEachBudgetOfTheDesign(t *testing.T) {
	t.Parallel()
	r := results{Scenarios: []scenarioResults{
		{Name: "drain", Rounds: []round{{
			"epilogue": {"rate": 700}, "bare": {"rate": 1000}, "river": {"rate": 350}, "river-row": {"rate": 100},
		}}},
		{Name: "backlog", Rounds: []round{{"10M": {"rate": 80}, "100k": {"rate": 100}}}},
	}}
	page := string(reportPage(r, nil))
	for _, want := range []string{
		"epilogue / bare, rate: 0.70<br>epilogue / river, rate: 2.00<br>epilogue / river-row, rate: 7.00 | **met** |",
		"| ≥ 0.9 | 10M / 100k, rate: 0.80 | **MISSED** |",
		"| the same with 1 000 endpoints | ≥ 0.5 | – | not measured |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the report does not say %q:\n%s", want, page)
		}
	}
}

func TestAPromiseIsMetWhenAllItsBoundsAre(t *testing.T) {
	t.Parallel()
	sc := scenario{budgets: []budget{
		{metric: "a", of: "x", atMost: 1, unit: "s"}, {metric: "b", of: "x", atLeast: 1}, {metric: "c", of: "x"},
	}}
	for _, c := range []struct {
		found    sample
		want     verdict
		measured string
	}{
		{sample{"a": 1, "b": 1, "c": 5}, met, "x a: 1.00 s<br>x b: 1.00"},
		{sample{"a": 2, "b": 1}, missed, "x a: 2.00 s<br>x b: 1.00"},
		{sample{"a": 1, "b": 0}, missed, "x a: 1.00 s<br>x b: 0.00"},
		{sample{"a": 2}, missed, "x a: 2.00 s"},
		{sample{"a": 1}, metSoFar, "x a: 1.00 s"},
		{sample{"c": 1}, notMeasured, "–"},
	} {
		measured, v := judgePromise(sc, []round{{"x": c.found}})
		if v != c.want || measured != c.measured {
			t.Errorf("%v: %q, %q; want %q, %q", c.found, v, measured, c.want, c.measured)
		}
	}
}

func TestEveryPromiseIsMeasuredByAScenarioThatCanBreakIt(t *testing.T) {
	t.Parallel()
	for _, p := range promises() {
		sc, ok := scenarioNamed(p.scenario)
		bounds := 0
		for _, b := range sc.budgets {
			if b.bounded() {
				bounds++
			}
		}
		if !ok || bounds == 0 {
			t.Errorf("%s: scenario %q has %d bounds", p.what, p.scenario, bounds)
		}
	}
}

func TestATableCannotBeBrokenByItsText(t *testing.T) {
	t.Parallel()
	var p page
	p.row("a | b", "c")
	if want := "| a \\| b | c |\n"; p.String() != want {
		t.Errorf("written %q; want %q", p.String(), want)
	}
}
