package main

import "testing"

func TestFlatnessComparesTheLastQuarterWithTheFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrived []int64
		want    float64
	}{
		"even":              {[]int64{10, 20, 30, 40, 50, 60, 70, 80}, 1},
		"in another order":  {[]int64{80, 20, 30, 10, 50, 60, 70, 40}, 1},
		"half as fast last": {[]int64{10, 20, 30, 40, 50, 60, 80, 100}, 0.5},
		"one message":       {[]int64{10}, 0},
	} {
		if got := flatness(c.arrived); got != c.want {
			t.Errorf("%s: the flatness is %v; want %v", name, got, c.want)
		}
	}
}
