package chart

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Sizes in pixels.
const (
	width, height = 760, 400
	margin        = 20
	plotLeft      = 72
	plotRight     = width - margin - 12
	titleSize     = 16
	textSize      = 12
	charWidth     = 6.7 // of text of textSize, about: fonts differ
	lineHeight    = 18
	yTicksMax     = 6
	xTicksMax     = 8
	markersMax    = 25 // series of more points are lines alone
)

const (
	inkColour  = "#1f2328"
	paleColour = "#59636e"
	axisColour = "#8c959f"
	gridColour = "#e4e7eb"
	edgeColour = "#d0d7de"
)

// colour of the i-th series: those of Okabe and Ito, which people who see colours differently can tell apart, in an order
// that leaves the pale ones for last. A ninth series begins anew.
func colour(i int) string {
	all := []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#b8a800"}
	return all[i%len(all)]
}

// SVG returns the drawing as a file of its own.
func (c Chart) SVG() []byte {
	c = c.drawable()
	var d drawing
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		width, height, width, height, html.EscapeString(c.Title))
	d.printf(`<rect x="0.5" y="0.5" width="%d" height="%d" rx="6" fill="#ffffff" stroke="%s"/>`+"\n", width-1, height-1, edgeColour)
	d.printf(`<g font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="%d">`+"\n", textSize)
	d.printf(`<text x="%d" y="30" font-size="%d" font-weight="600" fill="%s">%s</text>`+"\n",
		margin, titleSize, inkColour, html.EscapeString(c.Title))
	top := d.legend(c, 52)
	if xs := c.xs(); len(xs) == 0 {
		d.text(width/2, height/2, "middle", paleColour, "not measured")
	} else {
		d.plot(c, xs, top+26)
	}
	if c.Note != "" {
		d.text(width-margin, height-12, "end", paleColour, c.Note)
	}
	d.printf("</g>\n</svg>\n")
	return d.Bytes()
}

// drawing collects the elements of an SVG.
type drawing struct{ bytes.Buffer }

func (d *drawing) printf(format string, args ...any) { _, _ = fmt.Fprintf(d, format, args...) }

func (d *drawing) text(x, y float64, anchor, colour, text string) {
	d.printf(`<text x="%s" y="%s" text-anchor="%s" fill="%s">%s</text>`+"\n", px(x), px(y), anchor, colour, html.EscapeString(text))
}

func (d *drawing) line(x1, y1, x2, y2 float64, colour string, thick float64) {
	d.printf(`<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="%s"/>`+"\n",
		px(x1), px(y1), px(x2), px(y2), colour, px(thick))
}

// px has a tenth of a pixel: finer is not seen, and would differ where the same was measured.
func px(v float64) string {
	text := strconv.FormatFloat(v, 'f', 1, 64)
	if text == "-0.0" {
		text = "0.0"
	}
	return text
}

// legend names the series, in as many lines as it takes, and returns where the last one is. What is alone needs no name
// beside the title.
func (d *drawing) legend(c Chart, y float64) (last float64) {
	if len(c.Series) < 2 {
		return y - lineHeight
	}
	const swatch, gap = 22, 18
	x := float64(margin)
	for i, s := range c.Series {
		needs := swatch + charWidth*float64(utf8.RuneCountInString(s.Name)) + gap
		if x+needs > width-margin && x > margin {
			x, y = margin, y+lineHeight
		}
		d.line(x, y-4, x+swatch-6, y-4, colour(i), 3)
		d.text(x+swatch, y, "start", inkColour, s.Name)
		x += needs
	}
	return y
}

// plot draws the axes and the series below top.
func (d *drawing) plot(c Chart, xs []float64, top float64) {
	const bottom = height - 70
	x := linearAxis(min(xs[0], 0), xs[len(xs)-1], xTicksMax).cutAt(xs[len(xs)-1])
	if c.LogX {
		x = logAxis(xs)
	}
	x.fromPx, x.toPx = plotLeft, plotRight
	y := linearAxis(c.lowest(), c.highest(), yTicksMax)
	y.fromPx, y.toPx = bottom, top+8
	d.text(margin, top-6, "start", paleColour, c.YTitle)
	for _, v := range y.ticks {
		at := y.place(v)
		d.line(plotLeft, at, plotRight, at, gridColour, 1)
		d.text(plotLeft-8, at+4, "end", paleColour, label(v))
	}
	for _, v := range x.between {
		d.line(x.place(v), bottom, x.place(v), bottom+3, axisColour, 1)
	}
	for _, v := range x.ticks {
		at := x.place(v)
		d.line(at, y.toPx, at, bottom, gridColour, 1)
		d.line(at, bottom, at, bottom+5, axisColour, 1)
		d.text(at, bottom+19, "middle", paleColour, label(v))
	}
	d.line(plotLeft, bottom, plotRight, bottom, axisColour, 1)
	d.text((plotLeft+plotRight)/2, bottom+38, "middle", paleColour, c.XTitle)
	markers := c.longest() <= markersMax
	for i, s := range slices.Backward(c.Series) { // the first on top
		d.series(s, x, y, colour(i), markers || len(s.Points) == 1)
	}
}

func (d *drawing) series(s Series, x, y axis, colour string, markers bool) {
	if len(s.Points) > 1 {
		d.printf(`<polyline fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" points="`, colour)
		for i, p := range s.Points {
			if i > 0 {
				d.printf(" ")
			}
			d.printf("%s,%s", px(x.place(p.X)), px(y.place(p.Y)))
		}
		d.printf("\"/>\n")
	}
	for _, p := range s.Points {
		at := x.place(p.X)
		if p.Min < p.Max {
			const half = 5
			low, high := y.place(p.Min), y.place(p.Max)
			d.line(at, low, at, high, colour, 1.5)
			d.line(at-half, low, at+half, low, colour, 1.5)
			d.line(at-half, high, at+half, high, colour, 1.5)
		}
		if markers {
			d.printf(`<circle cx="%s" cy="%s" r="3.5" fill="%s"/>`+"\n", px(at), px(y.place(p.Y)), colour)
		}
	}
}
