package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var longAgo = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// knows is what a process knows after a look that found endpoints, each due since longAgo.
func knows(endpoints ...string) *known {
	k := newKnown()
	var all []found
	for _, e := range endpoints {
		all = append(all, found{e, longAgo})
	}
	k.add(all)
	return k
}

func roomy(string) int { return 10 }

func (a asked) String() string {
	var names []string
	for _, t := range a.turns {
		names = append(names, t.endpoint)
	}
	return strings.Join(names, " ")
}

// gave is what a claim took: n messages of an endpoint, the last due at some seconds after longAgo.
func gave(endpoint string, n, until int) (messages []message) {
	for i := range n {
		messages = append(messages, message{endpoint: endpoint, dueFrom: longAgo.Add(time.Duration(until-i) * time.Second)})
	}
	return messages
}

func (k *known) from(endpoint string) string {
	p := k.places[endpoint]
	if p == nil {
		return "unknown"
	}
	return p.from.Sub(longAgo).String()
}

func TestTurnsGoRoundBehindTheEndpointAskedLast(t *testing.T) {
	t.Parallel()
	k := knows("c", "a", "d", "b")
	var got []string
	for range 3 {
		a := k.ask(3, roomy)
		got = append(got, a.String())
		if !a.rest {
			t.Errorf("%s: there is a fourth", a)
		}
		k.settle(a, append(append(gave(a.turns[0].endpoint, 1, 1), gave(a.turns[1].endpoint, 1, 1)...), gave(a.turns[2].endpoint, 1, 1)...), false)
	}
	if want := "[a b c d a b c d a]"; fmt.Sprint(got) != want {
		t.Errorf("asked %v, want %s", got, want)
	}
}

func TestAClaimThatIsCutGoesOnBehindTheLastThatGave(t *testing.T) {
	t.Parallel()
	k := knows("a", "b", "c", "d")
	a := k.ask(4, roomy)
	if !k.settle(a, append(gave("a", 2, 7), gave("b", 1, 5)...), true) {
		t.Error("c and d were not reached, and yet nothing is said to be left")
	}
	if got := k.ask(4, roomy).String(); got != "c d a b" {
		t.Errorf("then asked %s", got)
	}
	for endpoint, want := range map[string]string{"a": "7s", "b": "5s", "c": "0s", "d": "0s"} {
		if got := k.from(endpoint); got != want {
			t.Errorf("the next claim of %s begins at %s, want %s", endpoint, got, want)
		}
	}
}

func TestAnEndpointWithoutRoomIsPassedOverAndKept(t *testing.T) {
	t.Parallel()
	k := knows("a", "b")
	a := k.ask(9, func(endpoint string) int { return map[string]int{"b": 3}[endpoint] })
	if a.String() != "b" || !a.full || a.rest {
		t.Errorf("asked %s, full: %v, rest: %v", a, a.full, a.rest)
	}
	k.settle(a, gave("b", 3, 1), false)
	if got := k.ask(9, roomy).String(); got != "a b" {
		t.Errorf("then asked %s", got)
	}
}

func TestAnEndpointThatGivesNothingIsForgottenAfterAWhile(t *testing.T) {
	t.Parallel()
	k := knows("a", "b")
	for i := range barrenMax {
		if k.from("a") == "unknown" {
			t.Errorf("it is forgotten after %d claims", i)
		}
		k.settle(k.ask(9, roomy), gave("b", 1, i), false)
	}
	if k.from("a") != "unknown" || k.from("b") == "unknown" {
		t.Errorf("a: %s, b: %s", k.from("a"), k.from("b"))
	}
}

// TestIdleEndpointsDoNotKeepADrainTurning: those that are kept without giving anything are asked once, not in a circle.
func TestIdleEndpointsDoNotKeepADrainTurning(t *testing.T) {
	t.Parallel()
	k := knows("a", "b", "c", "d", "e")
	asks := 1
	for k.settle(k.ask(2, roomy), nil, false) {
		if asks++; asks > 10 {
			t.Fatal("it goes on asking")
		}
	}
	if asks != 3 {
		t.Errorf("five endpoints, two at a time: asked %d times", asks)
	}
}

func TestALookDuringAClaimKeepsWhatTheClaimDidNotSee(t *testing.T) {
	t.Parallel()
	k := knows("a")
	k.places["a"].barren = barrenMax - 1
	a := k.ask(9, roomy)
	k.add([]found{{"a", longAgo.Add(time.Hour)}})
	k.settle(a, nil, false)
	if k.from("a") != "0s" {
		t.Errorf("the endpoint is %s", k.from("a"))
	}
}

func TestALookTakesAnEndpointBackToWhatWasCommittedLate(t *testing.T) {
	t.Parallel()
	k := knows("a")
	k.settle(k.ask(9, roomy), gave("a", 1, 60), false)
	k.add([]found{{"a", longAgo.Add(20 * time.Second)}})
	if k.from("a") != "20s" {
		t.Errorf("the next claim begins at %s", k.from("a"))
	}
	k.add([]found{{"a", longAgo.Add(90 * time.Second)}})
	if k.from("a") != "20s" {
		t.Errorf("a look that finds less moved it on to %s", k.from("a"))
	}
}

func TestNewsAreFollowedWhereAClaimWouldServe(t *testing.T) {
	t.Parallel()
	turns := []turn{{endpoint: "gave some", most: 5}, {endpoint: "gave nothing", most: 5}, {endpoint: "gave all", most: 2}}
	messages := append(gave("gave some", 2, 1), gave("gave all", 2, 1)...)
	room := func(endpoint string) bool { return endpoint != "without room" }
	for endpoint, want := range map[string]bool{"not asked": true, "without room": false} {
		if _, more := outcome(turns, messages, []found{{endpoint, longAgo}}, room); more != want {
			t.Errorf("news of the endpoint that is %s: %v, want %v", endpoint, more, want)
		}
	}
	if usedUp, more := outcome(turns, messages, nil, room); fmt.Sprint(usedUp) != "[gave all]" || more {
		t.Errorf("used up: %v; more without news: %v", usedUp, more)
	}
}
