package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	svg "github.com/seed-abbacb8b/epilogue/bench/internal/chart"
)

// draw makes a chart of what was measured.
func (c Chart) draw(sc Scenario, r ScenarioResults) svg.Chart {
	drawn := svg.Chart{Title: upperFirst(c.Title), XTitle: c.XTitle, YTitle: c.YTitle, LogX: c.LogX}
	if c.Curve != "" {
		drawn.Series, drawn.Note = c.lines(sc, r), "for each contender, the round with the median "+sc.Metrics[0].Title
	} else {
		drawn.Series, drawn.Note = c.points(sc, r), "medians, with bars from the least to the greatest"
	}
	drawn.Note += "; " + roundsText(len(r.Rounds))
	return drawn
}

// Draws reports whether a contender is in the chart.
func (c Chart) Draws(contender string) bool {
	return len(c.Contenders) == 0 || slices.Contains(c.Contenders, contender)
}

// lines are the curves of the contenders that plotted it.
func (c Chart) lines(sc Scenario, r ScenarioResults) []svg.Series {
	var all []svg.Series
	for _, contender := range sc.Contenders {
		n := medianRound(r.Rounds, contender.Name, sc.Metrics[0].Name)
		if !c.Draws(contender.Name) || n < 0 || n >= len(r.Curves) {
			continue
		}
		points := r.Curves[n][contender.Name][c.Curve]
		if len(points) == 0 {
			continue
		}
		s := svg.Series{Name: contender.Name}
		for _, p := range points {
			s.Points = append(s.Points, svg.Point{X: p.X, Y: p.Y, Min: p.Y, Max: p.Y})
		}
		all = append(all, s)
	}
	return all
}

// points returns one point for each contender, at the amount in which it differs from the others.
func (c Chart) points(sc Scenario, r ScenarioResults) []svg.Series {
	s := svg.Series{Name: c.Metric}
	for _, contender := range sc.Contenders {
		if !c.Draws(contender.Name) {
			continue
		}
		if of := summaryOf(r.Rounds, contender.Name, c.Metric); of.n > 0 {
			s.Points = append(s.Points, svg.Point{X: contender.At, Y: of.median, Min: of.min, Max: of.max})
		}
	}
	return []svg.Series{s}
}

// medianRound returns the round in which a contender's metric is the median, the lower one of two; -1 when it was not
// measured.
func medianRound(rounds []Round, contender, metric string) int {
	var measured []int
	for n, r := range rounds {
		if _, ok := r[contender][metric]; ok {
			measured = append(measured, n)
		}
	}
	if len(measured) == 0 {
		return -1
	}
	slices.SortStableFunc(measured, func(a, b int) int {
		return cmp.Compare(rounds[a][contender][metric], rounds[b][contender][metric])
	})
	return measured[(len(measured)-1)/2]
}

// File is the file name of the n-th chart of a scenario, beside the report.
func (c Chart) File(sc Scenario, n int) string {
	name := c.Curve + c.Metric // one of them is empty
	for _, before := range sc.Charts[:n] {
		if before.Curve+before.Metric == name {
			return fmt.Sprintf("%s-%s-%d.svg", sc.Name, fileName(name), n+1)
		}
	}
	return fmt.Sprintf("%s-%s.svg", sc.Name, fileName(name))
}

func fileName(s string) string { return strings.ReplaceAll(s, "_", "-") }
