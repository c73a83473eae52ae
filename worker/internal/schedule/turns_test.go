package schedule

import (
	"fmt"
	"testing"
	"time"
)

// from says where the next claim of an endpoint begins.
func (r *rig) from(name string) string {
	e := r.endpoints[name]
	if e == nil || !e.candidate {
		return "no candidate"
	}
	return e.from.Sub(longAgo).String()
}

// asks orders a claim of at most n messages, past all waits, and returns whose turns it has.
func (r *rig) asks(n int) string {
	b := budget{free: 1000, part: 1000, unproven: 1000}
	p := pending{most: n}
	r.ask(&p, n, &b, r.now)
	r.drain.pending = p
	return Order{Turns: p.turns}.String()
}

// settles takes the result of the claim that was asked.
func (r *rig) settles(all bool, messages ...[]Message) {
	var took []Message
	for _, m := range messages {
		took = append(took, m...)
	}
	for _, m := range took {
		r.endpoint(m.Endpoint)
	}
	r.settle(took, all, r.now)
}

func TestTurnsGoRoundBehindTheEndpointAskedLast(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("c", "a", "d", "b")
	var got []string
	for range 3 {
		got = append(got, r.asks(3))
		if !r.drain.pending.rest {
			t.Errorf("%v: there is a fourth", got)
		}
		turns := r.drain.pending.turns
		r.settles(false, r.gave(turns[0].Endpoint, 1, 1), r.gave(turns[1].Endpoint, 1, 1), r.gave(turns[2].Endpoint, 1, 1))
	}
	if want := "[a b c d a b c d a]"; fmt.Sprint(got) != want {
		t.Errorf("asked %v, want %s", got, want)
	}
}

func TestAClaimThatIsCutGoesOnBehindTheLastThatGave(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a", "b", "c", "d")
	r.asks(4)
	r.settles(true, r.gave("a", 2, 7), r.gave("b", 1, 5))
	if got := r.asks(4); got != "c d a b" {
		t.Errorf("then asked %s", got)
	}
	for name, want := range map[string]string{"a": "7s", "b": "5s", "c": "0s", "d": "0s"} {
		if got := r.from(name); got != want {
			t.Errorf("the next claim of %s begins at %s, want %s", name, got, want)
		}
	}
}

func TestAnEndpointWithoutRoomIsPassedOverAndKept(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a", "b")
	r.begins("a", 4)
	if got := r.asks(9); got != "b" || !r.drain.pending.full || r.drain.pending.rest {
		t.Errorf("asked %s: %+v", got, r.drain.pending)
	}
	r.settles(false, r.gave("b", 3, 1))
	r.answers("a", 4, slow())
	if got := r.asks(9); got != "a b" {
		t.Errorf("then asked %s", got)
	}
}

func TestAnEndpointThatGivesNothingIsNoCandidateAfterAWhile(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a", "b")
	for i := range missesMax {
		if r.from("a") == "no candidate" {
			t.Errorf("it is none after %d claims", i)
		}
		r.asks(9)
		r.settles(false, r.gave("b", 1, i))
	}
	if r.from("a") != "no candidate" || r.from("b") == "no candidate" {
		t.Errorf("a: %s, b: %s", r.from("a"), r.from("b"))
	}
}

func TestAScanDuringAClaimKeepsWhatTheClaimDidNotSee(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a")
	r.endpoint("a").misses = missesMax - 1
	r.asks(9)
	r.addCandidates([]Candidate{{"a", longAgo.Add(time.Hour)}})
	if r.settles(false); r.from("a") != "0s" {
		t.Errorf("the endpoint is %s", r.from("a"))
	}
}

func TestAScanTakesACandidateBackToWhatWasCommittedLate(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a")
	r.asks(9)
	r.settles(false, r.gave("a", 1, 60))
	for _, c := range []struct{ found, want time.Duration }{{20 * time.Second, 20 * time.Second}, {90 * time.Second, 20 * time.Second}} {
		r.addCandidates([]Candidate{{"a", longAgo.Add(c.found)}})
		if r.from("a") != c.want.String() {
			t.Errorf("after a scan found %v the next claim begins at %s, want %v", c.found, r.from("a"), c.want)
		}
	}
}

func TestEndpointsLeftBehindAreFollowedWhereAClaimWouldServe(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("gave some", "gave nothing", "gave all")
	r.drain.pending.turns = []Turn{{Endpoint: "gave some", Most: 5}, {Endpoint: "gave nothing", Most: 5}, {Endpoint: "gave all", Most: 2}}
	r.begins("without room", 4)
	r.begins("gave all", 1)
	messages := append(r.gave("gave some", 2, 1), r.gave("gave all", 2, 1)...)
	r.endpoint("not asked")
	for name, want := range map[string]bool{"not asked": true, "without room": false} {
		if _, more := r.outcome(messages, []Candidate{{name, longAgo}}); more != want {
			t.Errorf("left behind at the endpoint that is %s: %v, want %v", name, more, want)
		}
	}
	usedUp, more := r.outcome(messages, nil)
	if !usedUp || more || !r.endpoint("gave all").wantsSlot || r.endpoint("gave some").wantsSlot {
		t.Errorf("used up: %v; more without anything left behind: %v", usedUp, more)
	}
}

// TestAnIdleEndpointIsForgotten, and one that is a candidate or was used lately is not.
func TestAnIdleEndpointIsForgotten(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("candidate")
	r.roundTrip("idle", slow())
	r.begins("busy", 1)
	r.later(endpointKept / 2)
	r.roundTrip("lately", slow())
	r.later(endpointKept/2 + time.Second)
	r.sweep(r.now)
	for name, want := range map[string]bool{"candidate": true, "busy": true, "lately": true, "idle": false} {
		if _, kept := r.endpoints[name]; kept != want {
			t.Errorf("%s is kept: %v", name, kept)
		}
	}
}
