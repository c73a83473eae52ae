package compare

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"
)

// records returns five outcomes. Each was committed, written and delivered once; the latencies are 1 ms to 5 ms.
func records() Records {
	var r Records
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 5 {
		run, attempt, message := fmt.Sprintf("run-%d", i), fmt.Sprintf("attempt-%d", i), fmt.Sprintf("message-%d", i)
		body := Hash(sha256.Sum256([]byte(run)))
		r.Outcomes = append(r.Outcomes, Outcome{run, attempt, "succeeded", body, start})
		r.Messages = append(r.Messages, Message{message, run, attempt, "succeeded"})
		r.Arrivals = append(r.Arrivals, Arrival{message, run, attempt, "succeeded", body, start.Add(time.Duration(i+1) * time.Millisecond)})
	}
	return r
}

func faults(v Verdict) int {
	return len(v.Missing) + len(v.Phantoms) + len(v.Altered) + len(v.Unwritten) + len(v.Unfounded) + len(v.Doubled)
}

func TestRecordsThatAgreeAreOK(t *testing.T) {
	t.Parallel()
	v := records().Verdict()
	if faults(v) != 0 || v.Outcomes != 5 || v.Messages != 5 || v.Arrived != 5 || v.Repeats != 0 {
		t.Errorf("the verdict is %+v, want no fault, and 5 arrived", v)
	}
	want := []time.Duration{1e6, 2e6, 3e6, 4e6, 5e6}
	if !slices.Equal(v.Latencies, want) {
		t.Errorf("latencies %v, want %v", v.Latencies, want)
	}
}

func TestARepeatIsCountedAndAllowed(t *testing.T) {
	t.Parallel()
	r := records()
	again := r.Arrivals[2]
	again.At = again.At.Add(time.Second)
	r.Arrivals = append(r.Arrivals, again)
	v := r.Verdict()
	if faults(v) != 0 || v.Arrived != 5 || v.Repeats != 1 || len(v.RepeatsAt) != 1 || !v.RepeatsAt[0].Equal(again.At) {
		t.Errorf("the verdict is %+v, want no fault, and 5 arrived", v)
	}
	if v.Latencies[2] != 3*time.Millisecond || !v.AllAt.Equal(r.Arrivals[4].At) {
		t.Errorf("the repeat changed the latency to %v and the end to %v, want no change", v.Latencies[2], v.AllAt)
	}
}

// TestEachKindOfFaultIsFound damages the records in one way at a time. Exactly the lists of the case must name the damage.
func TestEachKindOfFaultIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(*Records)
		want   map[string]int
	}{
		"an outcome that never arrived": {
			func(r *Records) { r.Arrivals = slices.Delete(r.Arrivals, 3, 4) },
			map[string]int{"missing": 1},
		},
		"all of them lost": {
			func(r *Records) { r.Arrivals = nil },
			map[string]int{"missing": 5},
		},
		"a run that was never committed": {
			func(r *Records) {
				r.Arrivals = append(r.Arrivals, Arrival{MessageID: "message-9", RunID: "run-9", Attempt: "attempt-9"})
			},
			map[string]int{"phantoms": 1},
		},
		"an attempt that was rolled back, of a run that was committed": {
			func(r *Records) {
				r.Arrivals = append(r.Arrivals, r.Arrivals[1])
				r.Arrivals[5].Attempt = "rolled-back"
			},
			map[string]int{"phantoms": 1},
		},
		"the rolled back attempt instead of the committed one": {
			func(r *Records) { r.Arrivals[1].Attempt = "rolled-back" },
			map[string]int{"phantoms": 1, "missing": 1},
		},
		"a webhook-id that the outbox does not hold": {
			func(r *Records) { r.Arrivals[1].MessageID = "message-9" },
			map[string]int{"phantoms": 1, "missing": 1},
		},
		"a webhook-id of another run's message": {
			func(r *Records) {
				r.Arrivals = append(r.Arrivals, r.Arrivals[1])
				r.Arrivals[5].MessageID = "message-2"
			},
			map[string]int{"phantoms": 1},
		},
		"another body": {
			func(r *Records) { r.Arrivals[4].Body[0]++ },
			map[string]int{"altered": 1},
		},
		"another body in a repeat": {
			func(r *Records) {
				r.Arrivals = append(r.Arrivals, r.Arrivals[4])
				r.Arrivals[5].Body[31]++
			},
			map[string]int{"altered": 1},
		},
		"another status": {
			func(r *Records) { r.Arrivals[0].Status = "failed" },
			map[string]int{"altered": 1},
		},
		"another status in the outbox": {
			func(r *Records) { r.Messages[0].Status = "failed" },
			map[string]int{"altered": 1},
		},
		"an acknowledgement without its message": {
			func(r *Records) {
				r.Messages = slices.Delete(r.Messages, 0, 1)
				r.Arrivals = slices.Delete(r.Arrivals, 0, 1)
			},
			map[string]int{"unwritten": 1, "missing": 1},
		},
		"a message without its acknowledgement": {
			func(r *Records) {
				r.Messages = append(r.Messages, Message{"message-9", "run-1", "rolled-back", "succeeded"})
			},
			map[string]int{"unfounded": 1},
		},
		"one outcome under two webhook-ids": {
			func(r *Records) {
				r.Messages = append(r.Messages, Message{"message-9", "run-1", "attempt-1", "succeeded"})
			},
			map[string]int{"doubled": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := records()
			c.damage(&r)
			v := r.Verdict()
			if faults(v) == 0 {
				t.Error("the verdict has no fault, want one")
			}
			for list, found := range map[string][]string{
				"missing": v.Missing, "phantoms": v.Phantoms, "altered": v.Altered,
				"unwritten": v.Unwritten, "unfounded": v.Unfounded, "doubled": v.Doubled,
			} {
				if len(found) != c.want[list] {
					t.Errorf("the list %s is %q, want %d entries", list, found, c.want[list])
				}
			}
		})
	}
}
