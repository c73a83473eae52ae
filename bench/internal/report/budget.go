package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Budget is a bound on a ratio between two contenders, or on an absolute figure of one when Against is empty. Without a
// bound it is only shown.
type Budget struct {
	Metric          string
	Of, Against     string  // contenders
	AtLeast, AtMost float64 // at most one is set
	Unit            string  // of an absolute figure, if it has one
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

// budgetDigits is how many digits of a budget's figures are shown after the point: enough to distinguish 0.59 from 0.6.
const budgetDigits = 2

// Bounded reports whether it can be met or missed.
func (b Budget) Bounded() bool { return b.AtLeast != 0 || b.AtMost != 0 }

// value is the median, with its unit.
func (b Budget) value(s summary) string {
	if b.Unit == "" || s.n == 0 {
		return Number(s.median, budgetDigits)
	}
	return Number(s.median, budgetDigits) + " " + b.Unit
}

// Name names what is bounded: a ratio, or a figure of one contender.
func (b Budget) Name() string {
	if b.Against == "" {
		return b.Of + " " + b.Metric
	}
	return fmt.Sprintf("%s / %s, %s", b.Of, b.Against, b.Metric)
}

// Bound is the bound with its unit; a dash when there is none.
func (b Budget) Bound() string {
	text := func(sign string, value float64) string {
		return strings.TrimSpace(sign + " " + strconv.FormatFloat(value, 'f', -1, 64) + " " + b.Unit)
	}
	switch {
	case b.AtLeast != 0:
		return text("≥", b.AtLeast)
	case b.AtMost != 0:
		return text("≤", b.AtMost)
	}
	return "–"
}

// evaluate takes the ratio within each round, where both sides met the same machine, and summarises over the rounds.
func (b Budget) evaluate(rounds []Round) summary {
	var values []float64
	for _, r := range rounds {
		of, ok := r[b.Of][b.Metric]
		if !ok {
			continue
		}
		if b.Against == "" {
			values = append(values, of)
		} else if against, ok := r[b.Against][b.Metric]; ok && against != 0 {
			values = append(values, of/against)
		}
	}
	return summarise(values)
}

// doubt reports when single rounds would have another verdict than their median.
func (b Budget) doubt(s summary) string {
	atMin, atMax := b.judge(summary{median: s.min, n: s.n}), b.judge(summary{median: s.max, n: s.n})
	if atMin == atMax {
		return ""
	}
	return ", not in every round"
}

// judge compares the median with the bound.
func (b Budget) judge(s summary) verdict {
	switch {
	case math.IsNaN(s.median):
		return notMeasured
	case !b.Bounded():
		return noVerdict
	case b.AtLeast != 0 && s.median < b.AtLeast, b.AtMost != 0 && s.median > b.AtMost:
		return missed
	}
	return met
}
