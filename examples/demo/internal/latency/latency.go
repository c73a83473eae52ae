// Package latency sums up durations as quantiles and as a histogram of text.
package latency

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// bounds are the upper ends of the histogram's bars, after the 1-2-5 series; a last bar has none.
func bounds() []time.Duration {
	var list []time.Duration
	for decade := time.Millisecond; decade <= 10*time.Second; decade *= 10 {
		list = append(list, decade, 2*decade, 5*decade)
	}
	return list[:len(list)-1]
}

// Quantile returns the smallest duration that the given share of them (0 to 1) does not exceed; 0 when there are none.
func Quantile(durations []time.Duration, share float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	rank := int(math.Ceil(share*float64(len(sorted))-1e-9)) - 1 // minus the rounding error of the multiplication
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Write draws a bar for each range between the shortest and the longest duration.
func Write(w io.Writer, durations []time.Duration, indent string) error {
	const widthMax = 40
	limits := bounds()
	counts := make([]int, len(limits)+1)
	for _, d := range durations {
		bar, _ := slices.BinarySearch(limits, d)
		counts[bar]++
	}
	first := slices.IndexFunc(counts, func(n int) bool { return n > 0 })
	if first < 0 {
		_, err := fmt.Fprintf(w, "%snothing to show\n", indent)
		return err
	}
	last := len(counts) - 1
	for counts[last] == 0 {
		last--
	}
	most := slices.Max(counts)
	for bar := first; bar <= last; bar++ {
		label := "over " + Short(limits[len(limits)-1])
		if bar < len(limits) {
			label = "to " + Short(limits[bar])
		}
		width := (counts[bar]*widthMax + most - 1) / most // rounded up, so that every count is visible
		if _, err := fmt.Fprintf(w, "%s%-10s %7d  %s\n", indent, label, counts[bar], strings.Repeat("#", width)); err != nil {
			return err
		}
	}
	return nil
}

// Short writes a duration with two or three digits that matter.
func Short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond && d%time.Millisecond != 0:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d%time.Second == 0:
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
