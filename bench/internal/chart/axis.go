package chart

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// axis maps values to places between two pixels, and says where its ticks are.
type axis struct {
	from, to       float64 // values, ascending
	fromPx, toPx   float64
	logarithmic    bool
	ticks, between []float64 // labelled; only drawn
}

func (a axis) place(v float64) float64 {
	from, to := a.from, a.to
	if a.logarithmic {
		v, from, to = math.Log(v), math.Log(from), math.Log(to)
	}
	return a.fromPx + (v-from)/(to-from)*(a.toPx-a.fromPx)
}

// linearAxis reaches from the tick at or below from to the one at or above to.
func linearAxis(from, to float64, ticksMax int) axis {
	if !(to > from) {
		to = from + 1
	}
	step := niceStep((to - from) / float64(ticksMax))
	a := axis{from: math.Floor(from/step) * step, to: math.Ceil(to/step-1e-9) * step}
	for i := range int(math.Round((a.to-a.from)/step)) + 1 {
		a.ticks = append(a.ticks, a.from+float64(i)*step)
	}
	return a
}

// cutAt ends the axis at its last value instead of at a tick beyond: no time is shown that did not pass.
func (a axis) cutAt(last float64) axis {
	if last > a.from {
		a.to = last
		a.ticks = slices.DeleteFunc(a.ticks, func(v float64) bool { return v > last+(last-a.from)*1e-9 })
	}
	return a
}

// niceStep is the least of 1, 2 and 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, times := range []float64{1, 2, 5} {
		if times*power >= v*(1-1e-9) {
			return times * power
		}
	}
	return 10 * power
}

// labelledMax is how many places a logarithmic axis labels rather than the powers of ten: such a chart compares a few
// amounts, and these are what its reader wants to see below it.
const labelledMax = 8

// logAxis has some room beyond the first and the last value, which are the least and the greatest of xs, all above 0.
func logAxis(xs []float64) axis {
	first, last := xs[0], xs[len(xs)-1]
	room := math.Pow(last/first, 0.04)
	if first == last {
		room = 2
	}
	a := axis{from: first / room, to: last * room, logarithmic: true}
	for power := math.Pow(10, math.Floor(math.Log10(a.from))); power <= a.to; power *= 10 {
		for times := 1.0; times < 10; times++ {
			if v := times * power; v >= a.from && v <= a.to {
				a.between = append(a.between, v)
				if times == 1 {
					a.ticks = append(a.ticks, v)
				}
			}
		}
	}
	if len(xs) <= labelledMax || len(a.ticks) == 0 {
		a.ticks = a.apart(xs)
	}
	return a
}

// apart leaves out values that would stand in the label of the one before, or of the last.
func (a axis) apart(xs []float64) []float64 {
	const least = 0.07 // of the axis's length
	share := func(from, to float64) float64 { return math.Log(to/from) / math.Log(a.to/a.from) }
	last := xs[len(xs)-1]
	var kept []float64
	for _, x := range xs {
		if (len(kept) == 0 || share(kept[len(kept)-1], x) >= least) && (x == last || share(x, last) >= least) {
			kept = append(kept, x)
		}
	}
	if !slices.Contains(kept, last) {
		kept = append(kept, last)
	}
	return kept
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
