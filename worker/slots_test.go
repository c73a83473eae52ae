package worker

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func endAll(s *slots, endpoint string, n int, a answer) {
	for range n {
		s.end(endpoint, a)
	}
}

func beginAll(s *slots, endpoint string, n int) {
	for range n {
		s.begin(message{endpoint: endpoint})
	}
}

// roundTrip fills the endpoint's window and answers everything in it alike, in so long a time that nothing is claimed
// ahead.
func roundTrip(s *slots, endpoint string, a answer) (busy int) {
	busy = s.budget(0).room(endpoint)
	beginAll(s, endpoint, busy)
	a.startedAt, a.duration = time.Now(), time.Hour
	endAll(s, endpoint, busy, a)
	return busy
}

func TestAQuickEndpointsShareGrowsToItsBoundInAFewRoundTrips(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 64)
	beginAll(s, "e", 1) // as under steady load
	rounds := 0
	for got := 0; got < 63; rounds++ { // one is busy all the time
		got = roundTrip(s, "e", answer{class: classDelivered})
		if got > 63 || rounds > 20 {
			t.Fatalf("window %d after %d round trips, want 63 at the most, and soon", got, rounds)
		}
	}
	t.Logf("%d round trips", rounds)
}

func TestAHangingEndpointComesDownToOneSlot(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 64)
	for range 6 {
		roundTrip(s, "e", answer{class: classDelivered})
	}
	for range 8 {
		roundTrip(s, "e", answer{class: classTimeout})
	}
	if got := roundTrip(s, "e", answer{class: classTimeout}); got != 1 {
		t.Errorf("window %d after time-outs, want 1", got)
	}
	for range 8 {
		roundTrip(s, "e", answer{class: classDelivered})
	}
	if got := roundTrip(s, "e", answer{class: classDelivered}); got < slotsInitial {
		t.Errorf("window %d after answers, want %d or more", got, slotsInitial)
	}
}

func TestSlotsComeBackWhateverHappens(t *testing.T) {
	t.Parallel()
	s := newSlots(10, 4)
	for _, a := range []answer{{class: classDelivered}, {class: classTimeout}, {class: classStatus, statusCode: 429}, {class: classDNS}} {
		roundTrip(s, "a", a)
		roundTrip(s, "b", a)
	}
	if b := s.budget(0); b.free != 10 || b.strangers != 5 {
		t.Errorf("%d slots are free, %d for strangers, want 10 and 5", b.free, b.strangers)
	}
	for endpoint, w := range s.endpoints {
		if w.busy != 0 {
			t.Errorf("%s is busy with %d", endpoint, w.busy)
		}
	}
}

// quick is an answer after a millisecond: of a window of four, 160 come in aheadTime.
func quick() answer { return answer{class: classDelivered, duration: time.Millisecond} }

func ahead(endpoint string, n int) (messages []message) {
	for range n {
		messages = append(messages, message{endpoint: endpoint, claimedAt: time.Now()})
	}
	return messages
}

// TestAQuickEndpointsMessagesAreClaimedAhead, and wait for a slot of its own.
func TestAQuickEndpointsMessagesAreClaimedAhead(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 4)
	if got := s.budget(0).room("e"); got != 4 {
		t.Errorf("room for %d before the first answer, want 4", got)
	}
	beginAll(s, "e", 4)
	endAll(s, "e", 4, quick())
	if got := s.budget(0).room("e"); got != 4+160 {
		t.Errorf("room for %d after a quick answer, want 164", got)
	}
	begun := 0
	for _, m := range ahead("e", 164) {
		if now, later := s.begin(m); now {
			begun++
		} else if !later {
			t.Error("a message has nowhere to go")
		}
	}
	if begun != 4 {
		t.Errorf("%d requests begun, want the window's 4", begun)
	}
	if got := s.budget(0).room("e"); got != 0 {
		t.Errorf("room for %d more", got)
	}
	for i := range 160 {
		if _, more, back := s.end("e", quick()); !more || len(back) > 0 {
			t.Fatalf("after answer %d: the next begins: %v, %d went back", i+1, more, len(back))
		}
	}
	endAll(s, "e", 4, quick())
	if b := s.budget(0); b.free != 256 || b.ahead != 256 {
		t.Errorf("%d slots and room for %d ahead, want 256 each", b.free, b.ahead)
	}
}

func TestWhatWasClaimedAheadGoesBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer answer
		age    time.Duration
		back   int
	}{
		"answered":        {quick(), 0, 0},
		"failed":          {answer{class: classStatus, statusCode: 500}, 0, 0},
		"refused":         {answer{class: classStatus, statusCode: 404}, 0, 0},
		"timed out":       {answer{class: classTimeout}, 0, 10},
		"too many":        {answer{class: classStatus, statusCode: 429}, 0, 10},
		"cannot connect":  {answer{class: classConnect}, 0, 10},
		"waited too long": {quick(), 2 * aheadKept, 10},
	} {
		s := newSlots(256, 4)
		beginAll(s, "e", 4)
		endAll(s, "e", 4, quick())
		for _, m := range ahead("e", 14) {
			m.claimedAt = m.claimedAt.Add(-c.age)
			s.begin(m)
		}
		if _, more, back := s.end("e", c.answer); len(back) != c.back || more != (c.back == 0) {
			t.Errorf("%s: %d went back, want %d; the next begins: %v", name, len(back), c.back, more)
		}
	}
}

func TestInACrowdNothingIsClaimedAhead(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 64)
	for range 10 {
		roundTrip(s, "e", quick())
	}
	if got := s.budget(16).room("e"); got != 256/16 {
		t.Errorf("room for %d, want its part of the slots: %d", got, 256/16)
	}
	if got := s.budget(1000).room("e"); got != 1 {
		t.Errorf("room for %d among a thousand, want 1", got)
	}
}

// TestStrangersGetHalfOfTheSlotsAndThenOneEach: hanging endpoints that nothing is known of leave the rest to others.
func TestStrangersGetHalfOfTheSlotsAndThenOneEach(t *testing.T) {
	t.Parallel()
	s := newSlots(16, 8)
	roundTrip(s, "known", answer{class: classDelivered})
	b := s.budget(0)
	for endpoint, want := range map[string]int{"a": slotsInitial, "b": slotsInitial} {
		if n := b.room(endpoint); n != want {
			t.Errorf("room for %d of %s, want %d", n, endpoint, want)
		}
		beginAll(s, endpoint, want)
	}
	if n := b.room("c"); n != 1 {
		t.Errorf("room for %d of a third stranger, want 1", n)
	}
	beginAll(s, "c", 1)
	if n := s.budget(0).room("c"); n != 0 {
		t.Errorf("room for %d more of it", n)
	}
	if n := s.budget(0).room("known"); n < slotsInitial {
		t.Errorf("room for %d of the endpoint that is known, want its window", n)
	}
	s.end("a", answer{class: classTimeout, duration: time.Second})
	s.end("b", quick())
	if n := s.budget(0).room("e"); n != slotsInitial {
		t.Errorf("room for %d of another stranger after one slot came back and one endpoint answered", n)
	}
}

func TestAWorkerOfOneSlotServesStrangers(t *testing.T) {
	t.Parallel()
	if n := newSlots(1, 1).budget(0).room("e"); n != 1 {
		t.Errorf("room for %d", n)
	}
}

func TestNoRequestBeginsOnTheGround(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 4)
	beginAll(s, "e", 4)
	endAll(s, "e", 4, quick())
	for _, m := range ahead("e", 14) {
		s.begin(m)
	}
	if back := s.ground(); len(back) != 10 {
		t.Errorf("%d go back, want 10", len(back))
	}
	if now, later := s.begin(message{endpoint: "e"}); now || later {
		t.Error("another one begins")
	}
	if _, more, _ := s.end("e", quick()); more {
		t.Error("another one begins in the slot of the first")
	}
}

func TestEnoughIsToldOnceAClaimIsWorthIt(t *testing.T) {
	t.Parallel()
	s := newSlots(8, 8)
	s.budget(0)
	told := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	beginAll(s, "e", 4)
	enough := s.enough(3)
	for i := range 4 {
		s.end("e", answer{class: classDelivered, duration: time.Hour})
		if got := told(enough); got != (i+1 == 3) {
			t.Errorf("after %d: told: %v", i+1, got)
		}
	}
	if !told(s.enough(2)) {
		t.Error("what ended before counts too")
	}
	s.budget(0)
	if told(s.enough(1)) {
		t.Error("what ended before the last claim does not count")
	}
}

// TestADrainIsToldOfTheSlotsThatItWants, and not of the end of every other request.
func TestADrainIsToldOfTheSlotsThatItWants(t *testing.T) {
	t.Parallel()
	slow := answer{class: classDelivered, duration: time.Hour}
	told := func(s *slots) bool {
		select {
		case <-s.freed:
			return true
		default:
			return false
		}
	}
	s := newSlots(16, 8)
	roundTrip(s, "full", slow)
	roundTrip(s, "other", slow)
	told(s)
	b := s.budget(0)
	beginAll(s, "full", b.room("full"))
	beginAll(s, "other", 1)
	s.budget(0).room("full") // of which it has none
	if s.end("other", slow); told(s) {
		t.Error("it is told of a request that nobody waits for")
	}
	if s.end("full", slow); !told(s) {
		t.Error("it is not told of room at the endpoint that had none")
	}
	s = newSlots(16, 8)
	beginAll(s, "used up", 4)
	s.want("used up")
	if s.end("used up", slow); !told(s) {
		t.Error("it is not told of room at the endpoint that was used up")
	}
	endAll(s, "used up", 3, slow)
	told(s)
	if s.want("used up"); !told(s) {
		t.Error("it waits for requests that have ended")
	}
	s = newSlots(1, 1)
	beginAll(s, "last", 1)
	s.budget(0)
	if s.end("last", slow); !told(s) {
		t.Error("it is not told that a slot is free")
	}
}

// TestWhoMayNotGetAMessageUnasked: who has no room, and a stranger that has a request under way.
func TestWhoMayNotGetAMessageUnasked(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 64)
	except := func() []string {
		_, names := s.budget(0).fresh()
		slices.Sort(names)
		return names
	}
	beginAll(s, "stranger", 1)
	beginAll(s, "known", 1)
	s.end("known", quick())
	beginAll(s, "known", 1)
	beginAll(s, "full", 4)
	s.end("full", quick())
	beginAll(s, "full", 5)
	if got := fmt.Sprint(except()); got != "[full stranger]" {
		t.Errorf("none may go to %s", got)
	}
	s.end("stranger", answer{class: classTimeout})
	endAll(s, "full", 4, quick())
	if got := except(); len(got) != 0 {
		t.Errorf("when they have answered, none may go to %s", got)
	}
}

// TestAClaimKeepsSlotsBackForWhatItDoesNotKnow, a quarter at the most.
func TestAClaimKeepsSlotsBackForWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for slots, want := range map[int]int{1: 0, 8: 2, 256: freshMost} {
		b := newSlots(slots, slots).budget(0)
		if most, _ := b.fresh(); most != want || b.free != slots-want {
			t.Errorf("of %d slots %d are kept back and %d are left, want %d kept back", slots, most, b.free, want)
		}
	}
}

// TestAWindowThatIsHalvedDuringAClaimKeepsItsMessages, and the next claim asks for no less than nothing.
func TestAWindowThatIsHalvedDuringAClaimKeepsItsMessages(t *testing.T) {
	t.Parallel()
	s := newSlots(4, 4)
	beginAll(s, "e", 4)
	endAll(s, "e", 4, quick())
	beginAll(s, "e", 1)
	got := s.budget(0).room("e")
	s.end("e", answer{class: classTimeout, startedAt: time.Now()})
	for _, m := range ahead("e", got) {
		if now, later := s.begin(m); !now && !later {
			t.Error("a message has nowhere to go")
		}
	}
	if s.ahead >= 0 {
		t.Fatalf("%d messages wait in a window of 2, which is what this is about: ahead is %d", len(s.endpoints["e"].waiting), s.ahead)
	}
	b := s.budget(0)
	if room := b.room("other"); b.ahead != 0 || room < 1 {
		t.Errorf("the next claim may take %d ahead, and %d of another endpoint", b.ahead, room)
	}
}
