package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// results are what a run found, as -json writes them: every round's samples, from which all else is computed.
type results struct {
	Machine   machine           `json:"machine"`
	Started   time.Time         `json:"started"`
	Seconds   float64           `json:"seconds"`
	Short     bool              `json:"short"`
	Rounds    int               `json:"rounds"`
	Scenarios []scenarioResults `json:"scenarios"`
}

type scenarioResults struct {
	Name   string        `json:"name"`
	Rounds []round       `json:"rounds"`
	Curves []roundCurves `json:"curves,omitempty"` // one for each round; none when nothing was plotted
}

// roundCurves are the curves of a round, by contender.
type roundCurves map[string]curves

// round is a sample of each contender.
type round map[string]sample

// scenario returns what was found of a scenario, no rounds if it was not run.
func (r results) scenario(name string) scenarioResults {
	for _, s := range r.Scenarios {
		if s.Name == name {
			return s
		}
	}
	return scenarioResults{Name: name}
}

// summary of one metric of one contender over the rounds.
func summaryOf(rounds []round, contender, metric string) summary {
	var values []float64
	for _, r := range rounds {
		if v, ok := r[contender][metric]; ok {
			values = append(values, v)
		}
	}
	return summarise(values)
}

func writeResults(path string, r results) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("-json: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("-json: %w", err)
	}
	return nil
}

// readResults reads what -json wrote, for a flag that takes it.
func readResults(flag, path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %s is not what -json writes: %w", flag, path, err)
	}
	return &r, nil
}
