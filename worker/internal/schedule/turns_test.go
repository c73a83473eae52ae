package schedule

import (
	"fmt"
	"testing"
	"time"
)

// from is the due time at which the next claim of an endpoint begins, as text.
func (r *rig) from(name string) string {
	e := r.endpoints[name]
	if e == nil || !e.candidate {
		return "no candidate"
	}
	return e.from.Sub(longAgo).String()
}

// asks waits as often as it must, orders a claim of n messages at most, and returns the endpoints of its turns.
func (r *rig) asks(n int) string {
	b := budget{free: 1000, part: 1000, unproven: 1000}
	p := pending{most: n}
	r.ask(&p, n, &b, r.now)
	r.drain.pending = p
	return Order{Turns: p.turns}.String()
}

// settles gives the scheduler the result of that claim.
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

func TestTurnsGoInACircleFromClaimToClaim(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("c", "a", "d", "b")
	var got []string
	for range 3 {
		got = append(got, r.asks(3))
		if !r.drain.pending.rest {
			t.Errorf("%v: the order has no rest, want the fourth endpoint in it", got)
		}
		turns := r.drain.pending.turns
		r.settles(false, r.gave(turns[0].Endpoint, 1, 1), r.gave(turns[1].Endpoint, 1, 1), r.gave(turns[2].Endpoint, 1, 1))
	}
	if want := "[a b c d a b c d a]"; fmt.Sprint(got) != want {
		t.Errorf("the turns are %v, want %s", got, want)
	}
}

func TestAfterAFullClaimTheNextOneBeginsBehindTheLastEndpointThatGave(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a", "b", "c", "d")
	r.asks(4)
	r.settles(true, r.gave("a", 2, 7), r.gave("b", 1, 5))
	if got := r.asks(4); got != "c d a b" {
		t.Errorf("the next turns are %s, want c d a b", got)
	}
	for name, want := range map[string]string{"a": "7s", "b": "5s", "c": "0s", "d": "0s"} {
		if got := r.from(name); got != want {
			t.Errorf("the next claim of %s begins at %s, want %s", name, got, want)
		}
	}
}

func TestAnEndpointWithoutRoomHasNoTurnAndStaysACandidate(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a", "b")
	r.begins("a", 4)
	if got := r.asks(9); got != "b" || !r.drain.pending.full || r.drain.pending.rest {
		t.Errorf("the turns are %s, of the order %+v; want b only, and full set", got, r.drain.pending)
	}
	r.settles(false, r.gave("b", 3, 1))
	r.answers("a", 4, slow())
	if got := r.asks(9); got != "a b" {
		t.Errorf("the next turns are %s, want a b", got)
	}
}

func TestAnEndpointThatGivesNothingSeveralTimesIsNoCandidateAnyMore(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a", "b")
	for i := range missesMax {
		if r.from("a") == "no candidate" {
			t.Errorf("the endpoint is no candidate after %d claims, want it to be one until missesMax", i)
		}
		r.asks(9)
		r.settles(false, r.gave("b", 1, i))
	}
	if r.from("a") != "no candidate" || r.from("b") == "no candidate" {
		t.Errorf("a begins at %s and b at %s, want only b as a candidate", r.from("a"), r.from("b"))
	}
}

func TestACandidateThatAScanFoundDuringAClaimStaysOne(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("a")
	r.endpoint("a").misses = missesMax - 1
	r.asks(9)
	r.addCandidates([]Candidate{{"a", longAgo.Add(time.Hour)}})
	if r.settles(false); r.from("a") != "0s" {
		t.Errorf("the next claim of a begins at %s, want 0s", r.from("a"))
	}
}

func TestAScanMovesACandidateBackToAnEarlierDueTime(t *testing.T) {
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

func TestMessagesLeftBehindLeadToAClaimIfTheirEndpointHasRoom(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8).knows("gave some", "gave nothing", "gave all")
	r.drain.pending.turns = []Turn{{Endpoint: "gave some", Most: 5}, {Endpoint: "gave nothing", Most: 5}, {Endpoint: "gave all", Most: 2}}
	r.begins("without room", 4)
	r.begins("gave all", 1)
	messages := append(r.gave("gave some", 2, 1), r.gave("gave all", 2, 1)...)
	r.endpoint("not asked")
	for name, want := range map[string]bool{"not asked": true, "without room": false} {
		if _, more := r.outcome(messages, []Candidate{{name, longAgo}}); more != want {
			t.Errorf("messages left behind at the endpoint that is %s lead to another claim: %v, want %v", name, more, want)
		}
	}
	usedUp, more := r.outcome(messages, nil)
	if !usedUp || more || !r.endpoint("gave all").wantsSlot || r.endpoint("gave some").wantsSlot {
		t.Errorf("used up %v, and another claim %v; want true and false, and that only the endpoint that gave all waits for a slot", usedUp, more)
	}
}

// TestAnIdleEndpointIsForgotten, but not one that is a candidate, has a request or was used lately.
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
			t.Errorf("%s is kept: %v, want %v", name, kept, want)
		}
	}
}

// TestIdleEndpointsAreLookedForOnceASecond: there may be thousands, and claims are milliseconds apart.
func TestIdleEndpointsAreLookedForOnceASecond(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.roundTrip("idle", slow())
	r.later(endpointKept)
	r.sweep(r.now)
	for _, c := range []struct {
		after time.Duration
		kept  bool
	}{{time.Second - 1, true}, {1, false}} {
		r.later(c.after)
		r.sweep(r.now)
		if _, kept := r.endpoints["idle"]; kept != c.kept {
			t.Errorf("%v later it is kept: %v", c.after, kept)
		}
	}
}
