package report

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestTheXOfACurveAscends(t *testing.T) {
	t.Parallel()
	var p Plotter
	p.Plot("a", 2, 20)
	p.Plot("b", 1, 1)
	p.Plot("a", 1, 10)
	p.Plot("a", 3, math.NaN())
	p.Plot("a", math.Inf(1), 1)
	want := Curves{"a": {{1, 10}, {2, 20}}, "b": {{1, 1}}}
	if got := p.Plotted(); !reflect.DeepEqual(got, want) {
		t.Errorf("plotted %v; want %v", got, want)
	}
}

func TestATrialThatPlotsNothingHasNoCurves(t *testing.T) {
	t.Parallel()
	if got := (&Plotter{}).Plotted(); len(got) > 0 {
		t.Errorf("plotted %v; want nothing", got)
	}
}

func TestAPointIsWrittenAsAPair(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(Curves{"rate": {{0.5, 12}}})
	if want := `{"rate":[[0.5,12]]}`; err != nil || string(text) != want {
		t.Errorf("wrote %s, %v; want %s", text, err, want)
	}
	var read Point
	if err := json.Unmarshal([]byte(`"x"`), &read); err == nil {
		t.Error("a text is read as a point, want an error")
	}
}

func TestARateIsPlottedOverTheTimeSinceTheFirstArrival(t *testing.T) {
	t.Parallel()
	const perSecond, seconds = 1000, 4
	var arrived []int64
	for i := range perSecond * seconds {
		arrived = append(arrived, time.Unix(1, 0).Add(time.Duration(i)*time.Second/perSecond).UnixNano())
	}
	var p Plotter
	p.PlotRate(arrived)
	points := p.Plotted()[RateCurve]
	if want := len(arrived) / perRateBinLeast; len(points) != want {
		t.Fatalf("%d points; want %d", len(points), want)
	}
	for _, at := range points {
		if math.Abs(at.Y-perSecond) > perSecond/100 {
			t.Errorf("%v messages/s at %v s; want %d", at.Y, at.X, perSecond)
		}
	}
	if first, last := points[0].X, points[len(points)-1].X; first <= 0 || last >= seconds {
		t.Errorf("points from %v to %v s; want them within %d", first, last, seconds)
	}
}

func TestARateNeedsMoreThanOneInstant(t *testing.T) {
	t.Parallel()
	var p Plotter
	p.PlotRate([]int64{7, 7, 7})
	if got := p.Plotted(); len(got) > 0 {
		t.Errorf("plotted %v; want nothing", got)
	}
}
