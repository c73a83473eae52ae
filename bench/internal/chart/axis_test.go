package chart

import (
	"fmt"
	"math"
	"testing"
)

func TestALinearAxisHasRoundTicksAroundItsValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to float64
		want     string
	}{
		{0, 14_300, "[0 5000 10000 15000]"},
		{0, 10, "[0 2 4 6 8 10]"},
		{0, 0.93, "[0 0.2 0.4 0.6 0.8 1]"},
		{0, 6, "[0 1 2 3 4 5 6]"},
		{-3, 4, "[-4 -2 0 2 4]"},
		{0, 0, "[0 0.2 0.4 0.6 0.8 1]"},
		{7, 7, "[7 7.2 7.4 7.6 7.8 8]"},
	} {
		a := linearAxis(c.from, c.to, 6)
		for i, v := range a.ticks {
			a.ticks[i] = math.Round(v*1e9) / 1e9
		}
		if got := fmt.Sprint(a.ticks); got != c.want {
			t.Errorf("from %v to %v: %s; want %s", c.from, c.to, got, c.want)
		}
	}
}

func TestAnAxisCutAtItsLastValueHasNoTicksBeyond(t *testing.T) {
	t.Parallel()
	for last, want := range map[float64]string{84: "84 [0 20 40 60 80]", 80: "80 [0 20 40 60 80]", 0: "1 [0 0.2 0.4 0.6 0.8 1]"} {
		a := linearAxis(0, last, 6).cutAt(last)
		for i, v := range a.ticks {
			a.ticks[i] = math.Round(v*1e9) / 1e9
		}
		if got := fmt.Sprint(a.to, a.ticks); got != want {
			t.Errorf("cut at %v: %s; want %s", last, got, want)
		}
	}
}

func TestALinearAxisHoldsItsValuesAndFewTicksWhateverTheyAre(t *testing.T) {
	t.Parallel()
	for exponent := -9; exponent <= 12; exponent++ {
		for _, digits := range []float64{1, 1.0001, 1.7, 2, 3.3, 5, 5.01, 9.999} {
			to := digits * math.Pow(10, float64(exponent))
			a := linearAxis(0, to, 6)
			if a.to < to*(1-1e-6) || a.to > 2*to || len(a.ticks) < 3 || len(a.ticks) > 8 {
				t.Errorf("to %v: an axis to %v, ticks %v", to, a.to, a.ticks)
			}
		}
	}
}

func TestALogarithmicAxisLabelsTheAmountsThatAreCompared(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		xs   []float64
		want string
	}{
		{[]float64{1, 10, 100, 1000, 4000}, "[1 10 100 1000 4000]"},
		{[]float64{1e5, 1e6, 1e7}, "[100000 1e+06 1e+07]"},
		{[]float64{5}, "[5]"},
		{[]float64{100, 105, 9900, 10_000}, "[100 10000]"},                                         // those between would stand in a label
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100}, "[1 10 100]"},                              // a curve rather than a few amounts
		{[]float64{11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}, "[11 12 13 14 15 16 17 18 19 21]"}, // no power of ten within
	} {
		a := logAxis(c.xs)
		if got := fmt.Sprint(a.ticks); got != c.want {
			t.Errorf("%v: ticks %s; want %s", c.xs, got, c.want)
		}
		if !(a.from < c.xs[0] && c.xs[len(c.xs)-1] < a.to) {
			t.Errorf("%v: an axis from %v to %v", c.xs, a.from, a.to)
		}
	}
}

func TestPlacesAreProportionalAlongAnAxis(t *testing.T) {
	t.Parallel()
	linear := axis{from: 0, to: 10, fromPx: 100, toPx: 200}
	logarithmic := axis{from: 1, to: 10_000, fromPx: 0, toPx: 400, logarithmic: true}
	upwards := axis{from: 0, to: 10, fromPx: 300, toPx: 100}
	for _, c := range []struct {
		a       axis
		v, want float64
	}{
		{linear, 0, 100}, {linear, 5, 150}, {linear, 10, 200},
		{logarithmic, 1, 0}, {logarithmic, 100, 200}, {logarithmic, 10_000, 400},
		{upwards, 0, 300}, {upwards, 10, 100},
	} {
		if got := c.a.place(c.v); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v at %v; want %v", c.v, got, c.want)
		}
	}
}

func TestLabelsAreShort(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.2: "0.2", 0.1 + 0.2: "0.3", 2.5: "2.5", 250: "250", 4000: "4000", 9999: "9999", 10_000: "10k",
		12_500: "12.5k", 100_000: "100k", 1e6: "1M", 1.5e6: "1.5M", 1e7: "10M", 3e9: "3G", -20_000: "-20k", 0.00002: "0.00002",
		999_999: "1000k",
	} {
		if got := label(v); got != want {
			t.Errorf("%v: %q; want %q", v, got, want)
		}
	}
}
