package report

import (
	"math"
	"testing"
)

func TestASummaryIsTheMedianAndTheSpread(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values []float64
		want   summary
	}{
		"one value":     {[]float64{7}, summary{median: 7, min: 7, max: 7, n: 1}},
		"odd":           {[]float64{9, 1, 5}, summary{median: 5, min: 1, max: 9, n: 3}},
		"even":          {[]float64{4, 1, 3, 2}, summary{median: 2.5, min: 1, max: 4, n: 4}},
		"one far off":   {[]float64{10, 11, 900}, summary{median: 11, min: 10, max: 900, n: 3}},
		"all the same":  {[]float64{2, 2}, summary{median: 2, min: 2, max: 2, n: 2}},
		"below nothing": {[]float64{-3, -1}, summary{median: -2, min: -3, max: -1, n: 2}},
	} {
		if got := summarise(c.values); got != c.want {
			t.Errorf("%s: summarise(%v) = %+v; want %+v", name, c.values, got, c.want)
		}
	}
}

func TestASummaryKeepsTheOrderOfItsValues(t *testing.T) {
	t.Parallel()
	values := []float64{3, 1, 2}
	summarise(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("the values are %v now, want 3 1 2 as before", values)
	}
}

func TestASummaryWithoutValuesIsNotANumber(t *testing.T) {
	t.Parallel()
	if s := summarise(nil); !math.IsNaN(s.median) || !math.IsNaN(s.min) || !math.IsNaN(s.max) || s.n != 0 {
		t.Errorf("summarise(nil) = %+v; want NaN, and n 0", s)
	}
}

func TestAQuantileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		sorted []float64
		q      float64
		want   float64
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]float64{8}, 0.99, 8}, {[]float64{1, 2, 3}, 0.5, 2},
	} {
		if got := Quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile of %d values at %v = %v; want %v", len(c.sorted), c.q, got, c.want)
		}
	}
}

func TestDigitsAreInGroupsOfThree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value  float64
		digits int
		want   string
	}{
		{27410.46, 1, "27 410.5"}, {999, 0, "999"}, {1000, 0, "1 000"}, {1234567, 0, "1 234 567"}, {-1234, 0, "-1 234"},
		{-0.001, 1, "0.0"}, {0.625, 2, "0.62"}, {math.NaN(), 2, "–"},
	} {
		if got := Number(c.value, c.digits); got != c.want {
			t.Errorf("number(%v, %d) = %q; want %q", c.value, c.digits, got, c.want)
		}
	}
}
