package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	svg "github.com/seed-abbacb8b/epilogue/bench/internal/chart"
)

// draw makes a chart of what was measured.
func (c chart) draw(sc scenario, r scenarioResults) svg.Chart {
	drawn := svg.Chart{Title: upperFirst(c.title), XTitle: c.xTitle, YTitle: c.yTitle, LogX: c.logX}
	if c.curve != "" {
		drawn.Series, drawn.Note = c.lines(sc, r), "of each contender the round with the median "+sc.metrics[0].title
	} else {
		drawn.Series, drawn.Note = c.points(sc, r), "medians, with bars from the least to the greatest"
	}
	drawn.Note += "; " + roundsText(len(r.Rounds))
	return drawn
}

// draws reports whether a contender is in the chart.
func (c chart) draws(contender string) bool {
	return len(c.contenders) == 0 || slices.Contains(c.contenders, contender)
}

// lines are the curves of the contenders that plotted it.
func (c chart) lines(sc scenario, r scenarioResults) []svg.Series {
	var all []svg.Series
	for _, contender := range sc.contenders {
		n := medianRound(r.Rounds, contender.name, sc.metrics[0].name)
		if !c.draws(contender.name) || n < 0 || n >= len(r.Curves) {
			continue
		}
		points := r.Curves[n][contender.name][c.curve]
		if len(points) == 0 {
			continue
		}
		s := svg.Series{Name: contender.name}
		for _, p := range points {
			s.Points = append(s.Points, svg.Point{X: p.x, Y: p.y, Min: p.y, Max: p.y})
		}
		all = append(all, s)
	}
	return all
}

// points are one of each contender, at the amount in which it differs from the others.
func (c chart) points(sc scenario, r scenarioResults) []svg.Series {
	s := svg.Series{Name: c.metric}
	for _, contender := range sc.contenders {
		if !c.draws(contender.name) {
			continue
		}
		if of := summaryOf(r.Rounds, contender.name, c.metric); of.n > 0 {
			s.Points = append(s.Points, svg.Point{X: contender.at, Y: of.median, Min: of.min, Max: of.max})
		}
	}
	return []svg.Series{s}
}

// medianRound returns the round in which a contender's metric is the median, the lower one of two; -1 when it was not
// measured.
func medianRound(rounds []round, contender, metric string) int {
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

// file is what the n-th chart of a scenario is called beside the report.
func (c chart) file(sc scenario, n int) string {
	name := c.curve + c.metric // one of them is empty
	for _, before := range sc.charts[:n] {
		if before.curve+before.metric == name {
			return fmt.Sprintf("%s-%s-%d.svg", sc.name, fileName(name), n+1)
		}
	}
	return fmt.Sprintf("%s-%s.svg", sc.name, fileName(name))
}

func fileName(s string) string { return strings.ReplaceAll(s, "_", "-") }
