package report

import "maps"

// Sample is what one trial measured, by metric. A metric that does not apply to a contender, or cannot be measured on this
// machine, is absent.
type Sample map[string]float64

// OthersMetric is the name of a metric of every sample: the share of the machine that others used, in percent.
const OthersMetric = "cpu_others"

// noisyPercent is the share of the machine that others may use in a trial before its figures are suspect.
const noisyPercent = 10.0

// Disturbed reports a trial that others took CPU from.
func (s Sample) Disturbed() bool { return s[OthersMetric] > noisyPercent }

// DropUnmeasured removes what is not a number, because it could not be measured.
func (s Sample) DropUnmeasured() {
	maps.DeleteFunc(s, func(_ string, v float64) bool { return !isFinite(v) })
}
