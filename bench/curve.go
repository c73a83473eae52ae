package main

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// point of a curve.
type point struct{ x, y float64 }

// MarshalJSON writes a point as [x, y].
func (p point) MarshalJSON() ([]byte, error) { return json.Marshal([2]float64{p.x, p.y}) }

// UnmarshalJSON reads what MarshalJSON writes.
func (p *point) UnmarshalJSON(text []byte) error {
	var pair [2]float64
	err := json.Unmarshal(text, &pair)
	p.x, p.y = pair[0], pair[1]
	return err
}

// curves of one trial, by name.
type curves map[string][]point

// plotter collects the curves of one trial. What samples a trial often runs beside what drives it, so it may be shared.
type plotter struct {
	mu     sync.Mutex
	curves curves
}

// plot adds a point to a curve of this trial. A curve's points may come in any order: they are drawn by their x. A trial
// plots some hundreds of points at most, for they are kept in the results of every round. A point that is no number, as
// the quantile of nothing, is left out.
func (t *trial) plot(curve string, x, y float64) {
	if !isFinite(x) || !isFinite(y) {
		return
	}
	p := t.plotter
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.curves == nil {
		p.curves = curves{}
	}
	p.curves[curve] = append(p.curves[curve], point{x, y})
}

// plotted returns the curves, each by its x, or nil when nothing was plotted.
func (p *plotter) plotted() curves {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := maps.Clone(p.curves)
	for name, points := range found {
		found[name] = slices.SortedStableFunc(slices.Values(points), func(a, b point) int {
			switch {
			case a.x < b.x:
				return -1
			case a.x > b.x:
				return 1
			}
			return 0
		})
	}
	return found
}

// rateCurve is what plotRate plots.
const rateCurve = "rate"

// A curve of a rate has enough points to see it bend, each wide enough to be a rate.
const (
	rateBinsMax     = 50
	perRateBinLeast = 500 // messages, on average
)

// plotRate plots the arrivals per second over the time since the first, which are in Unix nanoseconds.
func (t *trial) plotRate(arrived []int64) {
	first, last := slices.Min(arrived), slices.Max(arrived)
	if first == last {
		return
	}
	counts := make([]int, min(max(len(arrived)/perRateBinLeast, 1), rateBinsMax))
	bins := float64(len(counts))
	for _, at := range arrived {
		counts[min(int(float64(at-first)/float64(last-first)*bins), len(counts)-1)]++
	}
	width := time.Duration(last-first).Seconds() / bins
	for i, n := range counts {
		t.plot(rateCurve, (float64(i)+0.5)*width, float64(n)/width)
	}
}
