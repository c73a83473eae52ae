package report

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// Point of a curve.
type Point struct{ X, Y float64 }

// MarshalJSON writes a point as [x, y].
func (p Point) MarshalJSON() ([]byte, error) { return json.Marshal([2]float64{p.X, p.Y}) }

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Point) UnmarshalJSON(text []byte) error {
	var pair [2]float64
	err := json.Unmarshal(text, &pair)
	p.X, p.Y = pair[0], pair[1]
	return err
}

// Curves of one trial, by name.
type Curves map[string][]Point

// Plotter collects the curves of one trial. It may be shared, because a sampler often runs beside the code that drives a trial.
type Plotter struct {
	mu     sync.Mutex
	curves Curves
}

// Plot adds a point to a curve of this trial. A curve's points may come in any order: they are drawn by their x. A trial
// plots some hundreds of points at most, because the results of every round keep them. A point that is not a number, like
// the quantile of nothing, is left out.
func (p *Plotter) Plot(curve string, x, y float64) {
	if !isFinite(x) || !isFinite(y) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.curves == nil {
		p.curves = Curves{}
	}
	p.curves[curve] = append(p.curves[curve], Point{x, y})
}

// Plotted returns the curves, each by its x, or nil when nothing was plotted.
func (p *Plotter) Plotted() Curves {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := maps.Clone(p.curves)
	for name, points := range found {
		found[name] = slices.SortedStableFunc(slices.Values(points), func(a, b Point) int {
			switch {
			case a.X < b.X:
				return -1
			case a.X > b.X:
				return 1
			}
			return 0
		})
	}
	return found
}

// RateCurve is the name of the curve that [Plotter.PlotRate] plots.
const RateCurve = "rate"

// A rate curve has enough points to show a bend, and each point has enough messages for a rate.
const (
	rateBinsMax     = 50
	perRateBinLeast = 500 // messages, on average
)

// PlotRate plots the arrivals per second over the time since the first, which are in Unix nanoseconds.
func (p *Plotter) PlotRate(arrived []int64) {
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
		p.Plot(RateCurve, (float64(i)+0.5)*width, float64(n)/width)
	}
}
