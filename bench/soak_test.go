package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// enduredMinutes is a soak of 10 minutes with one message a second. Each message took 10 ms in the first third that counts,
// and 20 ms after it. Every fifth failed at first and arrived 5 s later. The sampled values double in the last third.
func enduredMinutes() endured {
	begun := time.Unix(1_000_000, 0)
	e := endured{begun: begun, ended: begun.Add(10 * time.Minute)}
	for second := range 600 {
		at := begun.Add(time.Duration(second) * time.Second)
		wait, level := 10*time.Millisecond, 100.0
		if second >= 240 {
			wait = 20 * time.Millisecond
		}
		if second >= 420 {
			level = 200
		}
		failed := second%5 == 0
		if failed {
			wait += 5 * time.Second
		}
		e.committed, e.arrived = append(e.committed, at), append(e.arrived, at.Add(wait).UnixNano())
		e.failedFirst = append(e.failedFirst, failed)
		e.seen = append(e.seen, soakLook{at: at, backlog: level, dead: level, resident: level})
	}
	return e
}

func TestASoakComparesItsFirstThirdWithItsLast(t *testing.T) {
	t.Parallel()
	first, last := enduredMinutes().outerThirds(time.Minute)
	begun := enduredMinutes().begun
	for name, got := range map[string]time.Duration{
		"1m0s": first.from.Sub(begun), "4m0s": first.until.Sub(begun), "7m0s": last.from.Sub(begun), "10m0s": last.until.Sub(begun),
	} {
		if got.String() != name {
			t.Errorf("got %v, want %v", got, name)
		}
	}
	found := report.Sample{}
	enduredMinutes().judge(full, found)
	for name, want := range map[string]float64{
		"rate": 1, "p50": 20, "p99": 20, "p99_growth": 2, "rss_growth": 2, "dead_growth": 2,
		"backlog_growth": (200.0 + backlogGrain) / (100 + backlogGrain),
	} {
		if got := found[name]; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestAShortSoakIsNotJudged(t *testing.T) {
	t.Parallel()
	found := report.Sample{}
	enduredMinutes().judge(short, found)
	for _, b := range soakScenario().budgets {
		if v, ok := found[b.Metric]; ok {
			t.Errorf("%s is %v; want no result", b.Metric, v)
		}
	}
}

func TestASoakDrawsTheCurvesOfItsCharts(t *testing.T) {
	t.Parallel()
	tr := &trial{size: full, Plotter: &report.Plotter{}}
	enduredMinutes().draw(tr)
	drawn := tr.Plotter.Plotted()
	for _, c := range soakCharts() {
		if len(drawn[c.Curve]) == 0 {
			t.Errorf("the curve %s has no points, want some", c.Curve)
		}
	}
	if n := len(drawn["p99"]); n != 60 {
		t.Errorf("%d windows of p99; want 60", n)
	}
	if !slices.ContainsFunc(drawn["delivered"], func(p report.Point) bool { return p.Y == 1 }) {
		t.Errorf("deliveries are %v; want one a second", drawn["delivered"])
	}
}
