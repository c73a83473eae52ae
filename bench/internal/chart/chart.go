// Package chart draws line charts as SVG, for a report that is read in a browser: readable on a light page and on a dark
// one, for it brings its own background, and the same bytes for the same figures, so that a change of it can be reviewed.
//
// It draws what it is given and judges nothing: the y axis begins at zero, so that a difference looks as large as it is.
package chart

import (
	"cmp"
	"math"
	"slices"
)

// Chart is a drawing of some series on common axes.
type Chart struct {
	Title          string
	XTitle, YTitle string // with their units
	LogX           bool   // points whose X is not above 0 are left out then
	Series         []Series
	Note           string // a line below the drawing
}

// Series is a line through its points, in the order of their X. Where all series have few points, each of them is shown.
type Series struct {
	Name   string
	Points []Point
}

// Point has a bar from Min to Max where these differ. A point with a NaN or an infinity in it is left out.
type Point struct{ X, Y, Min, Max float64 }

func (p Point) finite() bool {
	for _, v := range []float64{p.X, p.Y, p.Min, p.Max} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// drawable returns the chart with those points alone that can be drawn, each series in the order of X.
func (c Chart) drawable() Chart {
	kept := make([]Series, len(c.Series))
	for i, s := range c.Series {
		kept[i].Name = s.Name
		for _, p := range s.Points {
			if p.finite() && (!c.LogX || p.X > 0) {
				kept[i].Points = append(kept[i].Points, p)
			}
		}
		slices.SortStableFunc(kept[i].Points, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	}
	c.Series = kept
	return c
}

// xs are the different places on the x axis, in order.
func (c Chart) xs() []float64 {
	var all []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			all = append(all, p.X)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// longest is how many points the longest series has.
func (c Chart) longest() int {
	most := 0
	for _, s := range c.Series {
		most = max(most, len(s.Points))
	}
	return most
}

// highest is the largest value to be drawn; 0 when none is above it.
func (c Chart) highest() float64 {
	top := 0.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			top = max(top, p.Y, p.Max)
		}
	}
	return top
}

// lowest is the least value to be drawn; 0 when none is below it.
func (c Chart) lowest() float64 {
	bottom := 0.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			bottom = min(bottom, p.Y)
			if p.Min < p.Max {
				bottom = min(bottom, p.Min)
			}
		}
	}
	return bottom
}
