package report

import (
	"math"
	"slices"
)

// summary summarises many rounds.
type summary struct {
	median, min, max float64
	n                int
}

// summarise takes the values of all rounds. Without any, everything is NaN.
func summarise(values []float64) summary {
	if len(values) == 0 {
		nan := math.NaN()
		return summary{median: nan, min: nan, max: nan}
	}
	sorted := slices.Sorted(slices.Values(values))
	return summary{median: median(sorted), min: sorted[0], max: sorted[len(sorted)-1], n: len(sorted)}
}

func median(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// overlaps reports whether the spreads of two summaries share a value: then their difference may be chance.
func (s summary) overlaps(other summary) bool { return s.min <= other.max && other.min <= s.max }

// Quantile returns the least of the sorted values that at least a share q of them does not exceed (nearest rank).
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
