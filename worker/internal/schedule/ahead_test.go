package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// crowd returns a scheduler of 32 slots, all of them taken. 100 endpoints, which have answered before, contend for the slots.
func crowd(t *testing.T) *rig {
	t.Helper()
	r := slots(t, 32, 8)
	for i := range 100 {
		name := fmt.Sprintf("e%02d", i)
		r.begins(name, 1)
		r.answers(name, 1, slow())
		r.knows(name)
	}
	r.drains()
	r.drain.contended = true
	r.takes(r.claim(), 32)
	if r.free != 0 {
		t.Fatalf("%d slots are free, want none", r.free)
	}
	return r
}

// takes ends a claim with the first n messages of its order, one of each endpoint.
func (r *rig) takes(o Order, n int) (start []Message) {
	r.t.Helper()
	var took []Message
	for _, turn := range o.Turns[:n] {
		took = append(took, r.gave(turn.Endpoint, 1, 1)...)
	}
	start, back := r.Claimed(r.now, took, nil)
	if len(back) > 0 {
		r.t.Errorf("%d messages of a claim go back, want none", len(back))
	}
	return start
}

// again returns the order of the next claim, without the waits before it.
func (r *rig) again() Order {
	r.t.Helper()
	r.drain.after, r.drain.stream = afterNothing, false
	return r.claim()
}

// busy returns an endpoint that has a request in flight.
func (r *rig) busy() string {
	for _, name := range r.circle {
		if r.endpoints[name].inFlight > 0 {
			return name
		}
	}
	r.t.Fatal("no request is in flight, want one")
	return ""
}

// TestIfEndpointsContendTheNextSlotHasItsMessageReady: no slot is idle until the next claim's answer.
func TestIfEndpointsContendTheNextSlotHasItsMessageReady(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	o := r.again()
	if o.Most != 16 || len(o.Turns) != 16 {
		t.Fatalf("without a free slot a claim may take %d messages of %d endpoints, want 16, half as many as there are slots", o.Most, len(o.Turns))
	}
	if start := r.takes(o, 16); len(start) > 0 || r.Ahead() != 16 {
		t.Fatalf("%d requests begin without a slot, want none; %d messages are claimed ahead, want 16", len(start), r.Ahead())
	}
	for i := range 16 {
		next, more, back := r.Answered(r.busy(), slow(), r.now)
		if !more || next.Endpoint != o.Turns[i].Endpoint || len(back) > 0 {
			t.Errorf("the free slot goes to %q (%v), want %q; %d messages go back, want none", next.Endpoint, more, o.Turns[i].Endpoint, len(back))
		}
	}
	if _, more, _ := r.Answered(r.busy(), slow(), r.now); more || r.free != 1 || r.Ahead() != 0 {
		t.Errorf("after the last ready message another request begins: %v, want false; %d slots are free, want 1; %d messages are claimed ahead, want none", more, r.free, r.Ahead())
	}
}

// TestAMessageOfABusyEndpointIsReadyToo: it begins in the next free slot, and does not wait for its endpoint's own.
func TestAMessageOfABusyEndpointIsReadyToo(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	busy := r.endpoints[r.busy()]
	r.again()
	if start, _ := r.Claimed(r.now, r.gave(busy.name, 1, 1), nil); len(start) > 0 || busy.ready != 1 || len(busy.waiting) > 0 {
		t.Fatalf("%d requests begin, %d messages are ready, %d wait; want one that is ready", len(start), busy.ready, len(busy.waiting))
	}
	for name, other := range r.endpoints {
		if other == busy || other.inFlight == 0 {
			continue
		}
		if next, more, _ := r.Answered(name, slow(), r.now); !more || next.Endpoint != busy.name || busy.inFlight != 2 {
			t.Errorf("the slot of another endpoint goes to %q (%v), want %q", next.Endpoint, more, busy.name)
		}
		return
	}
	t.Fatal("no other endpoint has a request in flight, want one")
}

// TestAFewMessagesAreNotWorthAClaimWithoutASlot: otherwise the first request that ends would lead to a claim of one message.
func TestAFewMessagesAreNotWorthAClaimWithoutASlot(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	r.takes(r.again(), 16-BatchOfStream+1)
	r.drain.after, r.drain.stream = afterNothing, false
	if step := r.NextClaim(r.now); step.Do != WaitFor || step.For&SlotFreed == 0 {
		t.Errorf("with room for %d more the step is %v, want a wait for a slot", BatchOfStream-1, step)
	}
	r.Answered(r.busy(), slow(), r.now)
	if o := r.again(); o.Most != BatchOfStream {
		t.Errorf("with room for one more, a claim may take %d messages, want %d", o.Most, BatchOfStream)
	}
}

// TestOnlyAnEndpointWithoutABoundButItsWindowMayHaveMessagesReady. If another endpoint wants a slot, no endpoint behind it in
// the circle gets one before it.
func TestOnlyAnEndpointWithoutABoundButItsWindowMayHaveMessagesReady(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(r *rig, e *endpoint)
		behind int
	}{
		"has not answered yet":      {func(_ *rig, e *endpoint) { e.proven = false; e.inFlight = 0 }, 0},
		"has a rate":                {func(_ *rig, e *endpoint) { e.rate = 5 }, 0},
		"shares its origin":         {func(r *rig, _ *endpoint) { r.knows(lane.Of("other", "a"), lane.Of("other", "b")) }, 0},
		"has its window in flight":  {func(_ *rig, e *endpoint) { e.limit = e.inFlight }, 1},
		"has its window's messages": {func(_ *rig, e *endpoint) { e.ready = e.limit }, 1},
	} {
		r := crowd(t)
		r.knows("other")
		r.begins("other", 1)
		e := r.endpoint("other")
		e.proven = true
		c.change(r, e)
		b := r.budget()
		if n := r.room(&b, &b.part, e); n != 0 {
			t.Errorf("an endpoint that %s may give %d messages without a slot, want none", what, n)
		}
		if n := r.room(&b, &b.part, r.endpoint("e50")); n != c.behind {
			t.Errorf("an endpoint behind one that %s may give %d messages, want %d", what, n, c.behind)
		}
	}
}

// TestAReadyMessageThatMayNotBeginAnyMoreGoesBack, and the next message gets the slot.
func TestAReadyMessageThatMayNotBeginAnyMoreGoesBack(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(r *rig, first *endpoint)
		back   int
	}{
		"nothing happened":                  {func(*rig, *endpoint) {}, 0},
		"it waited just so":                 {func(r *rig, _ *endpoint) { r.later(aheadKept) }, 0},
		"it waited too long":                {func(r *rig, _ *endpoint) { r.later(aheadKept + 1) }, 16},
		"its window is full":                {func(_ *rig, e *endpoint) { e.inFlight = e.limit }, 1},
		"its operator has limited it since": {func(_ *rig, e *endpoint) { e.inFlight, e.operatorLimit = 2, 2 }, 1},
	} {
		r := crowd(t)
		o := r.again()
		r.takes(o, 16)
		c.change(r, r.endpoint(o.Turns[0].Endpoint))
		next, more, back := r.Answered(r.busy(), slow(), r.now)
		if len(back) != c.back || more != (c.back < 16) || more && next.Endpoint != o.Turns[c.back].Endpoint {
			t.Errorf("%s: %d messages go back, want %d; a request of %q begins: %v, want %v", what, len(back), c.back, next.Endpoint, more, c.back < 16)
		}
	}
}

// TestTheReadyMessagesOfAnEndpointThatBacksOffGoBack, and those of the others keep their order.
func TestTheReadyMessagesOfAnEndpointThatBacksOffGoBack(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	name := r.busy()
	took := append(r.gave("e70", 1, 1), r.gave(name, 2, 1)...)
	r.again()
	r.Claimed(r.now, append(took, r.gave("e71", 1, 1)...), nil)
	next, more, back := r.Answered(name, Answer{Kind: Timeout, StartedAt: r.now.Add(1)}, r.now)
	if len(back) != 2 || back[0].Endpoint != name || back[1].Endpoint != name || !more || next.Endpoint != "e70" {
		t.Errorf("%v go back, and a request of %q begins (%v); want both messages of %s, and e70", back, next.Endpoint, more, name)
	}
	if next, more, _ := r.Answered(r.busy(), slow(), r.now); !more || next.Endpoint != "e71" {
		t.Errorf("then a request of %q begins (%v), want e71", next.Endpoint, more)
	}
}

// TestReadyMessagesGoBackIfNoRequestEnds: another worker may have a slot for them.
func TestReadyMessagesGoBackIfNoRequestEnds(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	r.takes(r.again(), 8)
	r.later(time.Millisecond)
	r.takes(r.again(), 8)
	for _, c := range []struct {
		after time.Duration
		back  int
	}{{aheadKept - time.Millisecond, 0}, {1, 8}, {0, 0}, {time.Millisecond, 8}} {
		r.later(c.after)
		if back := r.Overdue(r.now); len(back) != c.back {
			t.Errorf("after %v more %d messages go back, want %d", c.after, len(back), c.back)
		}
	}
	if r.Ahead() != 0 {
		t.Errorf("%d messages are claimed ahead, want none", r.Ahead())
	}
}

func TestAStopAndASuspensionGiveBackTheReadyMessages(t *testing.T) {
	t.Parallel()
	for what, ends := range map[string]func(*rig) []Message{
		"stop":       func(r *rig) []Message { return r.Stop() },
		"suspension": func(r *rig) []Message { return r.Suspend() },
	} {
		r := crowd(t)
		r.takes(r.again(), 16)
		if back := ends(r); len(back) != 16 || r.Ahead() != 0 {
			t.Errorf("%s: %d messages go back, want 16; %d are claimed ahead, want none", what, len(back), r.Ahead())
		}
		if _, more, _ := r.Answered(r.busy(), slow(), r.now); more {
			t.Errorf("%s: another request begins, want none", what)
		}
	}
}

func TestAnEndpointWithAReadyMessageIsNotForgotten(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	r.takes(r.again(), 1)
	e := r.endpoint(r.ready[0].Endpoint)
	r.dropCandidate(e)
	r.later(2 * endpointKept)
	if r.sweep(r.now); r.endpoints[e.name] != e {
		t.Error("the endpoint is forgotten, want it kept")
	}
}

// TestTheSlotOfAnEndpointWithoutAnAnswerIsNotGivenToAnother: the other one may wait for the next slot.
func TestTheSlotOfAnEndpointWithoutAnAnswerIsNotGivenToAnother(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	r.Answered(r.busy(), slow(), r.now)
	r.knows("new")
	r.again()
	start, _ := r.Claimed(r.now, append(r.gave("e80", 1, 1), r.gave("new", 1, 1)...), nil)
	if len(start) != 1 || start[0].Endpoint != "new" {
		t.Errorf("the requests %v begin, want that of the endpoint that has not answered yet", start)
	}
}

// TestAMessageWithoutRoomInItsWindowWaitsForASlotOfItsOwnEndpoint: the next slot of any other would send it back.
func TestAMessageWithoutRoomInItsWindowWaitsForASlotOfItsOwnEndpoint(t *testing.T) {
	t.Parallel()
	r := crowd(t)
	name := r.busy()
	r.again()
	r.endpoints[name].limit = 1 // an answer halved it during the claim
	r.Claimed(r.now, r.gave(name, 1, 1), nil)
	var others []string
	for _, other := range r.circle {
		if other != name && r.endpoints[other].inFlight > 0 {
			others = append(others, other)
		}
	}
	if _, more, back := r.Answered(others[0], slow(), r.now); more || len(back) > 0 {
		t.Errorf("with the slot of another it begins: %v; %d go back", more, len(back))
	}
	if next, more, _ := r.Answered(name, slow(), r.now); !more || next.Endpoint != name {
		t.Errorf("with a slot of its own %q begins: %v", next.Endpoint, more)
	}
}
