package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
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

// elements draws the chart, parses the SVG, and counts its elements by name.
func elements(t *testing.T, c Chart) (count map[string]int, texts []string) {
	t.Helper()
	svg, err := c.SVG()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
		t.Errorf("a coordinate is not a number:\n%s", svg)
	}
	count = map[string]int{}
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return count, texts
		}
		if err != nil {
			t.Fatalf("the SVG is not XML: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				texts = append(texts, text)
			}
		}
	}
}

func TestAChartNamesItsAxesAndItsSeries(t *testing.T) {
	t.Parallel()
	_, texts := elements(t, twoSeries())
	for _, want := range []string{
		"Drain by backlog", "messages waiting", "messages/s", "ours", "theirs", "medians of 3 rounds", "100k", "10M", "0", "12k",
	} {
		if !slices.Contains(texts, want) {
			t.Errorf("the text %q is missing in %q", want, texts)
		}
	}
}

func TestABarIsDrawnForASpreadOnly(t *testing.T) {
	t.Parallel()
	c := twoSeries()
	without, _ := elements(t, c)
	c.Series[1].Points[0].Min, c.Series[1].Points[0].Max = 7_000, 9_000
	with, _ := elements(t, c)
	if got := with["path"] - without["path"]; got != 3 {
		t.Errorf("a spread adds %d lines; want a bar with two ends", got)
	}
}

func TestTheSameFiguresMakeTheSameBytes(t *testing.T) {
	t.Parallel()
	one, err := twoSeries().SVG()
	two, _ := twoSeries().SVG()
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two drawings of the same figures differ (%v), want the same bytes", err)
	}
}

func TestAChartWithoutPointsSaysThatNothingWasMeasured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Chart{
		"no series":    {Title: "Empty"},
		"no points":    {Title: "Empty", Series: []Series{{Name: "a"}}},
		"not a number": {Title: "Empty", Series: []Series{{Name: "a", Points: []Point{{X: 1, Y: math.NaN()}}}}},
		"zero on logs": {Title: "Empty", LogX: true, Series: []Series{{Name: "a", Points: []Point{{X: 0, Y: 1}}}}},
	} {
		if _, texts := elements(t, c); !slices.Contains(texts, "Empty: not measured") {
			t.Errorf("%s: the texts are %q, want \"Empty: not measured\" among them", name, texts)
		}
	}
}

func TestTextIsEscaped(t *testing.T) {
	t.Parallel()
	c := twoSeries()
	c.Title, c.Series[0].Name = `<script>"&'`, "a < b & c"
	if _, texts := elements(t, c); !slices.Contains(texts, c.Title) || !slices.Contains(texts, c.Series[0].Name) {
		t.Errorf("the texts are %q, want %q and %q among them", texts, c.Title, c.Series[0].Name)
	}
}

func TestOddFiguresAreDrawn(t *testing.T) {
	t.Parallel()
	many := Series{Name: strings.Repeat("a long name ", 12)}
	for i := range 500 {
		many.Points = append(many.Points, Point{X: float64(500 - i), Y: math.Abs(math.Sin(float64(i))) * 1e7})
	}
	for _, c := range []Chart{
		{Series: []Series{{Points: []Point{{X: 3, Y: 4}}}}},
		{LogX: true, Series: []Series{{Points: []Point{{X: 3, Y: 4}}}}},
		{Series: []Series{{Points: []Point{{}, {X: 1}}}}},
		{Series: []Series{{Points: []Point{{X: 1, Y: -5, Min: -9, Max: -1}, {X: 2, Y: 5}}}}},
		{Series: []Series{many}},
		{Series: []Series{many, many, many, {}, many, many, many, many, many}},
		{Series: []Series{{Points: []Point{{X: 1e-9, Y: 1e-9}, {X: 2e-9, Y: 3e-9}}}}},
		{Series: []Series{{Points: []Point{{X: 1, Y: math.Inf(1)}, {X: 1, Y: 2}}}}},
	} {
		elements(t, c)
	}
}

func TestALineOfManyPointsHasNoMarkers(t *testing.T) {
	t.Parallel()
	s := Series{Name: "a"}
	for i := range markersMax {
		s.Points = append(s.Points, Point{X: float64(i), Y: 1})
	}
	with, _ := elements(t, Chart{Series: []Series{s}})
	s.Points = append(s.Points, Point{X: markersMax, Y: 1})
	without, _ := elements(t, Chart{Series: []Series{s}})
	if with["path"]-without["path"] < markersMax-2 { // the ticks may differ
		t.Errorf("%d paths with markers, %d without; want about %d fewer without", with["path"], without["path"], markersMax)
	}
}

func TestLabelsAreShort(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.2: "0.2", 0.1 + 0.2: "0.3", 2.5: "2.5", 250: "250", 4000: "4000", 9999: "9999", 10_000: "10k",
		12_500: "12.5k", 100_000: "100k", 1e6: "1M", 1.5e6: "1.5M", 1e7: "10M", 3e9: "3G", -20_000: "-20k", 0.00002: "0.00002",
		999_999: "1000k",
	} {
		if got := label(v); got != want {
			t.Errorf("label(%v) is %q; want %q", v, got, want)
		}
	}
}
