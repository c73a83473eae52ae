package report

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Results are what a run found, as -json writes them: every round's samples, from which all else is computed.
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
}

// RoundCurves are the curves of a round, by contender.
type RoundCurves map[string]Curves

// Round is a sample of each contender.
type Round map[string]Sample

// scenario returns what was found of a scenario, no rounds if it was not run.
func (r Results) scenario(name string) ScenarioResults {
	for _, s := range r.Scenarios {
		if s.Name == name {
			return s
		}
	}
	return ScenarioResults{Name: name}
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

// ReadResults reads what -json wrote, for a flag that takes it.
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
