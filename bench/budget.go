package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// budget is a bound on a ratio between two contenders, or on an absolute figure of one when against is empty. Without a
// bound it is a ratio worth showing.
type budget struct {
	metric          string
	of, against     string  // contenders
	atLeast, atMost float64 // at most one is set
	unit            string  // of an absolute figure, if it has one
}

// verdict of a budget.
type verdict string

const (
	met         verdict = "met"
	missed      verdict = "MISSED"
	noVerdict   verdict = ""
	notMeasured verdict = "not measured"
	metSoFar    verdict = "met as far as measured" // of several bounds
)

// budgetDigits are shown of a budget's figures after the point: enough to tell a ratio of 0.59 from one of 0.6.
const budgetDigits = 2

// bounded reports whether it can be met or missed.
func (b budget) bounded() bool { return b.atLeast != 0 || b.atMost != 0 }

// value is the median, with its unit.
func (b budget) value(s summary) string {
	if b.unit == "" || s.n == 0 {
		return number(s.median, budgetDigits)
	}
	return number(s.median, budgetDigits) + " " + b.unit
}

func (b budget) name() string {
	if b.against == "" {
		return b.of + " " + b.metric
	}
	return fmt.Sprintf("%s / %s, %s", b.of, b.against, b.metric)
}

func (b budget) bound() string {
	text := func(sign string, value float64) string {
		return strings.TrimSpace(sign + " " + strconv.FormatFloat(value, 'f', -1, 64) + " " + b.unit)
	}
	switch {
	case b.atLeast != 0:
		return text("≥", b.atLeast)
	case b.atMost != 0:
		return text("≤", b.atMost)
	}
	return "–"
}

// evaluate takes the ratio within each round, where both sides met the same machine, and summarises over the rounds.
func (b budget) evaluate(rounds []round) summary {
	var values []float64
	for _, r := range rounds {
		of, ok := r[b.of][b.metric]
		if !ok {
			continue
		}
		if b.against == "" {
			values = append(values, of)
		} else if against, ok := r[b.against][b.metric]; ok && against != 0 {
			values = append(values, of/against)
		}
	}
	return summarise(values)
}

// doubt says when some rounds would have been judged otherwise than their median.
func (b budget) doubt(s summary) string {
	atMin, atMax := b.judge(summary{median: s.min, n: s.n}), b.judge(summary{median: s.max, n: s.n})
	if atMin == atMax {
		return ""
	}
	return ", not in every round"
}

// judge compares the median with the bound.
func (b budget) judge(s summary) verdict {
	switch {
	case math.IsNaN(s.median):
		return notMeasured
	case !b.bounded():
		return noVerdict
	case s.median < b.atLeast, b.atMost != 0 && s.median > b.atMost:
		return missed
	}
	return met
}
