package main

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestACurveIsInTheOrderOfItsX(t *testing.T) {
	t.Parallel()
	tr := &trial{plotter: &plotter{}}
	tr.plot("a", 2, 20)
	tr.plot("b", 1, 1)
	tr.plot("a", 1, 10)
	tr.plot("a", 3, math.NaN())
	tr.plot("a", math.Inf(1), 1)
	want := curves{"a": {{1, 10}, {2, 20}}, "b": {{1, 1}}}
	if got := tr.plotter.plotted(); !reflect.DeepEqual(got, want) {
		t.Errorf("plotted %v; want %v", got, want)
	}
}

func TestATrialThatPlotsNothingHasNoCurves(t *testing.T) {
	t.Parallel()
	if got := (&plotter{}).plotted(); len(got) > 0 {
		t.Errorf("plotted %v", got)
	}
}

func TestAPointIsWrittenAsAPair(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(curves{"rate": {{0.5, 12}}})
	if want := `{"rate":[[0.5,12]]}`; err != nil || string(text) != want {
		t.Errorf("written %s, %v; want %s", text, err, want)
	}
	var read point
	if err := json.Unmarshal([]byte(`"x"`), &read); err == nil {
		t.Error("text is read as a point")
	}
}

func TestARateIsPlottedOverTheTimeSinceTheFirstArrival(t *testing.T) {
	t.Parallel()
	const perSecond, seconds = 1000, 4
	var arrived []int64
	for i := range perSecond * seconds {
		arrived = append(arrived, time.Unix(1, 0).Add(time.Duration(i)*time.Second/perSecond).UnixNano())
	}
	tr := &trial{plotter: &plotter{}}
	tr.plotRate(arrived)
	points := tr.plotter.plotted()[rateCurve]
	if want := len(arrived) / perRateBinLeast; len(points) != want {
		t.Fatalf("%d points; want %d", len(points), want)
	}
	for _, p := range points {
		if math.Abs(p.y-perSecond) > perSecond/100 {
			t.Errorf("%v messages/s at %v s; want %d", p.y, p.x, perSecond)
		}
	}
	if first, last := points[0].x, points[len(points)-1].x; first <= 0 || last >= seconds {
		t.Errorf("points from %v to %v s; want them within %d", first, last, seconds)
	}
}

func TestARateOfOneInstantIsNone(t *testing.T) {
	t.Parallel()
	tr := &trial{plotter: &plotter{}}
	tr.plotRate([]int64{7, 7, 7})
	if got := tr.plotter.plotted(); len(got) > 0 {
		t.Errorf("plotted %v", got)
	}
}
