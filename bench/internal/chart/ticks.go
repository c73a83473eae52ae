package chart

import (
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
)

// labelledMax is up to how many points a logarithmic axis labels these points instead of the powers of ten: such a chart
// compares a few amounts, and its reader wants to see them.
const labelledMax = 8

func logTicks(xs []float64) plot.Ticker {
	if len(xs) > labelledMax {
		return shortly(plot.LogTicks{Prec: -1})
	}
	ticks := make(plot.ConstantTicks, len(xs))
	for i, x := range xs {
		ticks[i] = plot.Tick{Value: x, Label: label(x)}
	}
	return ticks
}

// shortly labels the ticks in few characters.
func shortly(ticker plot.Ticker) plot.Ticker {
	return plot.TickerFunc(func(from, to float64) []plot.Tick {
		ticks := ticker.Ticks(from, to)
		for i, t := range ticks {
			if t.Label != "" {
				ticks[i].Label = label(t.Value)
			}
		}
		return ticks
	})
}

// label writes a tick in few characters: 0.5, 250, 12k, 1.5M.
func label(v float64) string {
	const digits = 4 // enough for the ticks of an axis, and few enough to hide what floats leave behind
	if v == 0 {
		return "0"
	}
	unit := ""
	switch abs := math.Abs(v); {
	case abs >= 1e9:
		v, unit = v/1e9, "G"
	case abs >= 1e6:
		v, unit = v/1e6, "M"
	case abs >= 1e4:
		v, unit = v/1e3, "k"
	}
	text := strconv.FormatFloat(v, 'g', digits, 64)
	if strings.Contains(text, "e") {
		rounded, _ := strconv.ParseFloat(text, 64)
		text = strconv.FormatFloat(rounded, 'f', -1, 64)
	}
	return text + unit
}
