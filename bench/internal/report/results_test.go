package report

import (
	"testing"
	"time"
)

func TestTheScenariosOfALaterRunReplaceTheEarlierOnes(t *testing.T) {
	t.Parallel()
	of := func(name string, rate float64) ScenarioResults {
		return ScenarioResults{Name: name, Rounds: []Round{{"one": Sample{"rate": rate}}}}
	}
	started := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	first := Results{Machine: Machine{CPU: "x", Cores: 2}, Scenarios: []ScenarioResults{of("a", 1), of("b", 2)}}
	later := Results{Machine: Machine{CPU: "x", Cores: 2}, Started: started, Scenarios: []ScenarioResults{of("b", 3), of("c", 4)}}
	whole, err := first.With(later)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"a": 1, "b": 3, "c": 4} {
		s := whole.scenario(name)
		if got := s.Rounds[0]["one"]["rate"]; got != want {
			t.Errorf("scenario %s: the rate is %v, want %v", name, got, want)
		}
		if (s.when() == "") != (name == "a") {
			t.Errorf("scenario %s: the note about the time of its measurement is %q, want one only if it is from another run", name, s.when())
		}
	}
	if first.scenario("b").Rounds[0]["one"]["rate"] != 2 {
		t.Error("With changed the earlier results, want a copy")
	}
	later.Machine.Cores = 4
	if _, err := first.With(later); err == nil {
		t.Error("the results of two machines are merged, want an error")
	}
}
