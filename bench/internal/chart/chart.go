// Package chart draws line charts as SVG, for a report that is read in a browser, with gonum/plot. The same figures give the
// same bytes, so that a change can be reviewed.
//
// It draws what it is given and judges nothing: the y axis begins at zero, so that a difference looks as large as it is.
package chart

import (
	"bytes"
	"cmp"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
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

const (
	width, height = 570, 290 // in points, without the legend
	margin        = 12
	markersMax    = 25 // series of more points are lines alone
)

// SVG returns the drawing as a file of its own.
func (c Chart) SVG() ([]byte, error) {
	p := c.axes()
	legend := plot.NewLegend()
	legend.Left, legend.TextStyle.Font, legend.Padding = true, p.X.Label.TextStyle.Font, vg.Points(2)
	few := !slices.ContainsFunc(c.Series, func(s Series) bool { return len(s.Points) > markersMax })
	for i, s := range c.Series {
		points := c.drawable(s.Points)
		if len(points) == 0 {
			continue
		}
		drawn, err := addSeries(p, points, colour(i), few || len(points) == 1)
		if err != nil {
			return nil, err
		}
		legend.Add(s.Name, drawn)
	}
	names := 0.0
	if len(c.Series) > 1 { // a series that is alone needs no name beside the title
		names = float64(legend.Rectangle(draw.New(vgsvg.New(width, height))).Size().Y) + margin
	}
	canvas := vgsvg.New(width, vg.Length(height+names))
	all := draw.Crop(draw.New(canvas), margin, -margin, margin, -margin)
	p.Draw(draw.Crop(all, 0, 0, vg.Length(names), 0))
	if names > 0 {
		legend.Draw(all)
	}
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	return svg.Bytes(), err
}

// drawable returns the points that can be drawn, in the order of X.
func (c Chart) drawable(points []Point) []Point {
	points = slices.DeleteFunc(slices.Clone(points), func(p Point) bool { return !p.finite() || c.LogX && p.X <= 0 })
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	return points
}

// axes returns the plot without its series.
func (c Chart) axes() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White // the page may be dark
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label} {
		style.Font.Variant, style.Font.Size = "Sans", 9
	}
	p.Title.TextStyle.Font.Size, p.Title.Padding = 12, 8
	p.Title.Text, p.Y.Label.Text, p.X.Label.Text = c.Title, c.YTitle, c.XTitle
	if c.Note != "" {
		p.X.Label.Text += "\n" + c.Note
	}
	p.Y.Min, p.Y.Tick.Marker, p.X.Tick.Marker = 0, shortly(plot.DefaultTicks{}), shortly(plot.DefaultTicks{})
	xs := c.xs()
	switch {
	case len(xs) == 0:
		p.Title.Text += ": not measured"
		p.HideAxes()
	case c.LogX:
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, logTicks(xs)
		p.X.Min, p.X.Max = xs[0]/1.2, xs[len(xs)-1]*1.2
	default:
		p.X.Min = min(0, xs[0])
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xe4}, color.Gray{0xe4}
	p.Add(grid)
	return p
}

// xs are the different places on the x axis, in order.
func (c Chart) xs() (all []float64) {
	for _, s := range c.Series {
		for _, p := range c.drawable(s.Points) {
			all = append(all, p.X)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// spread has the form in which gonum/plot takes error bars.
type spread struct {
	plotter.XYs
	plotter.YErrors
}

func addSeries(p *plot.Plot, points []Point, c color.Color, markers bool) (plot.Thumbnailer, error) {
	xys := make(plotter.XYs, len(points))
	var bars spread
	for i, at := range points {
		xys[i] = plotter.XY{X: at.X, Y: at.Y}
		if at.Min < at.Max {
			bars.XYs = append(bars.XYs, xys[i])
			bars.YErrors = append(bars.YErrors, struct{ Low, High float64 }{at.Y - at.Min, at.Max - at.Y})
		}
	}
	line, dots, err := plotter.NewLinePoints(xys)
	if err != nil {
		return nil, err
	}
	line.Color, line.Width = c, 1.5
	p.Add(line)
	if markers {
		dots.Color, dots.Shape, dots.Radius = c, draw.CircleGlyph{}, 2.6
		p.Add(dots)
	}
	if len(bars.XYs) > 0 {
		drawn, err := plotter.NewYErrorBars(bars)
		if err != nil {
			return nil, err
		}
		drawn.Color = c
		p.Add(drawn)
	}
	return line, nil
}

// colour of the i-th series: those of Okabe and Ito, which colour-blind people can distinguish, with the pale ones last.
// A ninth series has the first colour again.
func colour(i int) color.Color {
	all := []color.RGBA{{R: 0x00, G: 0x72, B: 0xb2}, {R: 0xd5, G: 0x5e}, {G: 0x9e, B: 0x73}, {R: 0xcc, G: 0x79, B: 0xa7},
		{R: 0xe6, G: 0x9f}, {R: 0x56, G: 0xb4, B: 0xe9}, {R: 0x4d, G: 0x4d, B: 0x4d}, {R: 0xb8, G: 0xa8}}
	c := all[i%len(all)]
	c.A = 0xff
	return c
}
