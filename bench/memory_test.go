package main

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

func TestThePeaksOfTheTwoHalvesAreCompared(t *testing.T) {
	t.Parallel()
	seen := []report.Point{{X: 0, Y: 10}, {X: 1, Y: 40}, {X: 4, Y: 30}, {X: 5, Y: 35}, {X: 9, Y: 50}, {X: 11, Y: 400}}
	if got, ok := peakGrowth(seen, 10); got != 50.0/40 || !ok {
		t.Errorf("the growth is %v, %v; want 1.25", got, ok)
	}
	if got, ok := peakGrowth(seen, 1); ok {
		t.Errorf("a half without a measurement: got %v; want no result", got)
	}
}
