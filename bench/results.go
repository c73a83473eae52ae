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
	Name   string  `json:"name"`
	Rounds []round `json:"rounds"`
}

// round is a sample of each contender.
type round map[string]sample

// scenario returns the rounds of a scenario, none if it was not run.
func (r results) scenario(name string) []round {
	for _, s := range r.Scenarios {
		if s.Name == name {
			return s.Rounds
		}
	}
	return nil
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

func readResults(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("-compare: %w", err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("-compare: %s is not what -json writes: %w", path, err)
	}
	return &r, nil
}
