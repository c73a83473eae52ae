package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

func twoSeries() Chart {
	return Chart{
		Title: "Drain by backlog", XTitle: "messages waiting", YTitle: "messages/s", LogX: true, Note: "medians of 3 rounds",
		Series: []Series{
			{Name: "ours", Points: []Point{{X: 1e5, Y: 12_000, Min: 11_000, Max: 12_500}, {X: 1e7, Y: 11_800, Min: 11_800, Max: 11_800}}},
			{Name: "theirs", Points: []Point{{X: 1e5, Y: 8_000}, {X: 1e7, Y: 3_000}}},
		},
	}
}

// elements parses the SVG, and counts its elements by name.
func elements(t *testing.T, svg []byte) (count map[string]int, texts []string) {
	t.Helper()
	count = map[string]int{}
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return count, texts
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
			checkWithin(t, token)
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				texts = append(texts, text)
			}
		}
	}
}

// checkWithin makes sure that an element lies within the drawing.
func checkWithin(t *testing.T, e xml.StartElement) {
	t.Helper()
	for _, a := range e.Attr {
		most := 0.0
		switch a.Name.Local {
		case "x", "x1", "x2", "cx":
			most = width
		case "y", "y1", "y2", "cy":
			most = height
		default:
			continue
		}
		if v, err := strconv.ParseFloat(a.Value, 64); err != nil || v < 0 || v > most {
			t.Errorf("%s: %s=%q; want 0 to %v", e.Name.Local, a.Name.Local, a.Value, most)
		}
	}
}

func TestAChartNamesItsAxesAndItsSeries(t *testing.T) {
	t.Parallel()
	count, texts := elements(t, twoSeries().SVG())
	all := strings.Join(texts, "\n")
	for _, want := range []string{
		"Drain by backlog", "messages waiting", "messages/s", "ours", "theirs", "medians of 3 rounds", "100k", "10M", "0", "15k",
	} {
		if !strings.Contains("\n"+all+"\n", "\n"+want+"\n") {
			t.Errorf("no text %q among\n%s", want, all)
		}
	}
	if count["polyline"] != 2 || count["circle"] != 4 {
		t.Errorf("%d lines and %d points; want 2 and 4", count["polyline"], count["circle"])
	}
}

func TestABarShowsASpreadAndNothingElse(t *testing.T) {
	t.Parallel()
	c := twoSeries()
	with, _ := elements(t, c.SVG())
	c.Series[0].Points[0].Min = c.Series[0].Points[0].Max
	without, _ := elements(t, c.SVG())
	if got := with["line"] - without["line"]; got != 3 {
		t.Errorf("a spread adds %d lines; want a bar with two ends", got)
	}
}

func TestTheSameFiguresAreTheSameBytes(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(twoSeries().SVG(), twoSeries().SVG()) {
		t.Error("two drawings of the same figures differ")
	}
}

func TestAChartOfNothingSaysSo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Chart{
		"no series":    {Title: "Empty"},
		"no points":    {Title: "Empty", Series: []Series{{Name: "a"}}},
		"not a number": {Title: "Empty", Series: []Series{{Name: "a", Points: []Point{{X: 1, Y: math.NaN()}}}}},
		"zero on logs": {Title: "Empty", LogX: true, Series: []Series{{Name: "a", Points: []Point{{X: 0, Y: 1}}}}},
	} {
		_, texts := elements(t, c.SVG())
		if len(texts) < 2 || texts[len(texts)-1] != "not measured" {
			t.Errorf("%s: the texts are %q", name, texts)
		}
	}
}

func TestTextIsEscaped(t *testing.T) {
	t.Parallel()
	c := twoSeries()
	c.Title, c.Series[0].Name = `<script>"&'`, "a < b & c"
	_, texts := elements(t, c.SVG())
	if texts[0] != c.Title || !strings.Contains(strings.Join(texts, "\n"), c.Series[0].Name) {
		t.Errorf("the texts are %q", texts)
	}
}

// Whatever was measured is drawn within the drawing; elements checks every place.
func TestOddFiguresStayWithinTheDrawing(t *testing.T) {
	t.Parallel()
	many := Series{Name: strings.Repeat("a long name ", 12)}
	for i := range 500 {
		many.Points = append(many.Points, Point{X: float64(500 - i), Y: math.Abs(math.Sin(float64(i))) * 1e7})
	}
	for name, c := range map[string]Chart{
		"one point":      {Series: []Series{{Points: []Point{{X: 3, Y: 4}}}}},
		"one point, log": {LogX: true, Series: []Series{{Points: []Point{{X: 3, Y: 4}}}}},
		"all zero":       {Series: []Series{{Points: []Point{{}, {X: 1}}}}},
		"below zero":     {Series: []Series{{Points: []Point{{X: 1, Y: -5, Min: -9, Max: -1}, {X: 2, Y: 5}}}}},
		"unordered":      {Series: []Series{many}},
		"many series":    {Series: []Series{many, many, many, {}, many, many, many, many, many}},
		"tiny":           {Series: []Series{{Points: []Point{{X: 1e-9, Y: 1e-9}, {X: 2e-9, Y: 3e-9}}}}},
		"infinite":       {Series: []Series{{Points: []Point{{X: 1, Y: math.Inf(1)}, {X: 1, Y: 2}}}}},
	} {
		svg := c.SVG()
		elements(t, svg)
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%s: a place is no number\n%s", name, svg)
		}
	}
}

func TestALineOfManyPointsHasNoMarkers(t *testing.T) {
	t.Parallel()
	s := Series{Name: "a"}
	for i := range markersMax + 1 {
		s.Points = append(s.Points, Point{X: float64(i), Y: 1})
	}
	few := Series{Name: "b", Points: s.Points[:2]}
	if count, _ := elements(t, Chart{Series: []Series{s, few}}.SVG()); count["circle"] != 0 || count["polyline"] != 2 {
		t.Errorf("%d markers and %d lines; want 0 and 2", count["circle"], count["polyline"])
	}
	one := Series{Name: "c", Points: s.Points[:1]} // would not be seen otherwise
	if count, _ := elements(t, Chart{Series: []Series{s, one}}.SVG()); count["circle"] != 1 {
		t.Errorf("%d markers of a single point; want 1", count["circle"])
	}
}
