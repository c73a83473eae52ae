package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Results are what a run found, as -json writes them: every round's samples. Everything else is computed from them.
type Results struct {
	Machine   Machine           `json:"machine"`
	Started   time.Time         `json:"started"`
	Seconds   float64           `json:"seconds"`
	Short     bool              `json:"short"`
	Rounds    int               `json:"rounds"`
	Scenarios []ScenarioResults `json:"scenarios"`
}

// ScenarioResults are those of one scenario, without a warm-up.
type ScenarioResults struct {
	Name   string        `json:"name"`
	Rounds []Round       `json:"rounds"`
	Curves []RoundCurves `json:"curves,omitempty"` // one for each round; none when nothing was plotted
	Later  time.Time     `json:"later,omitzero"`   // the start of the later run that measured these, if one did
}

// RoundCurves are the curves of a round, by contender.
type RoundCurves map[string]Curves

// Round is a sample of each contender.
type Round map[string]Sample

// With replaces scenarios of these results by those of a later run. It refuses results that cannot be in one
// report: another machine, another Postgres, another form.
func (r Results) With(later Results) (Results, error) {
	a, b := r.Machine, later.Machine
	if a.CPU != b.CPU || a.Cores != b.Cores || a.Postgres != b.Postgres || a.Settings != b.Settings || r.Short != later.Short {
		return r, fmt.Errorf("-into: that run is of another machine, Postgres or form (%s, %d cores, Postgres %s, short: %v); "+
			"measure them all here", a.CPU, a.Cores, a.Postgres, r.Short)
	}
	r.Scenarios = slices.Clone(r.Scenarios)
	for _, s := range later.Scenarios {
		s.Later = later.Started
		if i := slices.IndexFunc(r.Scenarios, func(own ScenarioResults) bool { return own.Name == s.Name }); i >= 0 {
			r.Scenarios[i] = s
		} else {
			r.Scenarios = append(r.Scenarios, s)
		}
	}
	return r, nil
}

// scenario returns what was found of a scenario, no rounds if it was not run.
func (r Results) scenario(name string) ScenarioResults {
	for _, s := range r.Scenarios {
		if s.Name == name {
			return s
		}
	}
	return ScenarioResults{Name: name}
}

// when returns, for a scenario that a later run measured, the time of that run.
func (s ScenarioResults) when() string {
	if s.Later.IsZero() {
		return ""
	}
	return " Measured by a later run, " + s.Later.Format("2006-01-02 15:04 MST") + "."
}

// summaryOf takes one metric of one contender over the rounds.
func summaryOf(rounds []Round, contender, metric string) summary {
	var values []float64
	for _, r := range rounds {
		if v, ok := r[contender][metric]; ok {
			values = append(values, v)
		}
	}
	return summarise(values)
}

// WriteResults writes what ReadResults reads.
func WriteResults(path string, r Results) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("-json: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("-json: %w", err)
	}
	return nil
}

// ReadResults reads a file that -json wrote. flag names it in errors.
func ReadResults(flag, path string) (*Results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	var r Results
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %s is not what -json writes: %w", flag, path, err)
	}
	return &r, nil
}
