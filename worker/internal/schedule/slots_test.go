package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestAQuickEndpointsWindowGrowsToItsBoundInAFewRoundTrips(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	r.begins("e", 1) // one request is always in flight, as under steady load
	rounds := 0
	for got := 0; got < 63; rounds++ { // of the window of 64, one is taken
		got = r.roundTrip("e", slow())
		if got > 63 || rounds > 20 {
			t.Fatalf("the window is %d after %d round trips, want 63 at most, and within 20", got, rounds)
		}
	}
	t.Logf("%d round trips", rounds)
}

func TestTheWindowOfAHangingEndpointShrinksToOneSlot(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	for range 6 {
		r.roundTrip("e", slow())
	}
	for range 8 {
		r.roundTrip("e", Answer{Kind: Timeout})
	}
	if got := r.roundTrip("e", Answer{Kind: Timeout}); got != 1 {
		t.Errorf("the window is %d after time-outs, want 1", got)
	}
	for range 8 {
		r.roundTrip("e", slow())
	}
	if got := r.roundTrip("e", slow()); got < initialLimit {
		t.Errorf("the window is %d after answers, want %d or more", got, initialLimit)
	}
}

// Time-outs halve the window once per round trip, not once per answer.
func TestTimeoutsHalveTheWindowOncePerRoundTrip(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	for range 6 {
		r.roundTrip("e", slow())
	}
	limit := r.endpoint("e").limit
	r.roundTrip("e", Answer{Kind: Timeout})
	began := r.now.Add(-time.Second)
	if got := r.endpoint("e").limit; got != limit/2 {
		t.Errorf("a round trip of time-outs changed the window from %d to %d, want half", limit, got)
	}
	r.begins("e", 1)
	r.answers("e", 1, Answer{Kind: Timeout, StartedAt: began})
	if got := r.endpoint("e").limit; got != limit/2 {
		t.Errorf("a request that began before the window was halved changed it from %d to %d, want no change", limit/2, got)
	}
}

func TestUnhealthyAnswersDoNotGrowAWindow(t *testing.T) {
	t.Parallel()
	for _, a := range []Answer{{Kind: Status, StatusCode: 500}, {Kind: Failed}, {Kind: NotSent}} {
		r := slots(t, 256, 64)
		if r.roundTrip("e", a); r.endpoint("e").limit != initialLimit || r.endpoint("e").proven {
			t.Errorf("%+v: the window is %d and proven %v, want it unchanged and unproven", a, r.endpoint("e").limit, r.endpoint("e").proven)
		}
	}
}

// TestAnOperatorsLimitBoundsTheWindow, however large it has grown.
func TestAnOperatorsLimitBoundsTheWindow(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	for range 6 {
		r.roundTrip("e", slow())
	}
	m := r.gave("e", 1, 1)
	m[0].OperatorLimit = 3
	r.begin(m[0])
	r.knows("e").drains()
	if got := r.mayGive("e"); got != 2 {
		t.Errorf("the endpoint may give %d more, want 2 of 3", got)
	}
}

func TestAllSlotsComeBack(t *testing.T) {
	t.Parallel()
	r := slots(t, 10, 4)
	for _, a := range []Answer{{Kind: Delivered}, {Kind: Timeout}, {Kind: Status, StatusCode: 429}, {Kind: Failed}} {
		r.roundTrip("a", a)
		r.roundTrip("b", a)
	}
	if b := r.budget(); b.free != 10 || b.unproven != 5 {
		t.Errorf("%d slots are free, %d for unproven endpoints, want 10 and 5", b.free, b.unproven)
	}
}

// TestAQuickEndpointsMessagesAreClaimedAhead: they wait for a slot of their endpoint.
func TestAQuickEndpointsMessagesAreClaimedAhead(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 4)
	r.knows("e").drains()
	if got := r.mayGive("e"); got != 4 {
		t.Errorf("the endpoint may give %d before the first answer, want 4", got)
	}
	r.begins("e", 4)
	r.answers("e", 4, quick())
	if got := r.mayGive("e"); got != 4+160 {
		t.Errorf("the endpoint may give %d after a quick answer, want 164", got)
	}
	start, back := r.Claimed(r.now, r.gave("e", 164, 1), nil)
	if len(start) != 4 || len(back) != 0 {
		t.Errorf("%d requests begin and %d messages go back; want the window's 4, and none", len(start), len(back))
	}
	if got := r.mayGive("e"); got != 0 {
		t.Errorf("the endpoint may give %d more, want none", got)
	}
	for i := range 160 {
		if _, more, back := r.Answered("e", quick(), r.now); !more || len(back) > 0 {
			t.Fatalf("after answer %d the next request begins: %v, and %d messages go back; want true, and none", i+1, more, len(back))
		}
	}
	r.answers("e", 4, quick())
	if r.free != 256 || r.ahead != 256 {
		t.Errorf("%d slots are free, and %d more can be claimed ahead; want 256 of both", r.free, r.ahead)
	}
}

func TestMessagesThatWereClaimedAheadGoBackWhenTheirEndpointIsUnhealthy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer Answer
		age    time.Duration
		back   int
	}{
		"answered":        {quick(), 0, 0},
		"failed":          {Answer{Kind: Status, StatusCode: 500}, 0, 0},
		"refused":         {Answer{Kind: Status, StatusCode: 404}, 0, 0},
		"timed out":       {Answer{Kind: Timeout}, 0, 10},
		"too many":        {Answer{Kind: Status, StatusCode: 429}, 0, 10},
		"cannot connect":  {Answer{Kind: Failed}, 0, 10},
		"waited just so":  {quick(), aheadKept, 0},
		"waited too long": {quick(), aheadKept + 1, 10},
	} {
		r := slots(t, 256, 4)
		r.begins("e", 4)
		r.answers("e", 4, quick())
		r.begins("e", 14)
		r.later(c.age)
		if _, more, back := r.Answered("e", c.answer, r.now); len(back) != c.back || more != (c.back == 0) {
			t.Errorf("%s: %d messages go back, want %d; the next request begins: %v, want that only if none goes back", name, len(back), c.back, more)
		}
	}
}

func TestEndpointsThatContendGetAnEqualPartOfTheFreeSlots(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	for range 10 {
		r.roundTrip("e", slow())
	}
	r.begins("e", 1)
	r.answers("e", 1, quick())
	r.endpoint("e").duration = time.Millisecond
	r.knows("e").drains()
	if got := r.mayGive("e"); got <= 64 {
		t.Fatalf("alone, the endpoint may give %d, want more than its window: this test is about that", got)
	}
	r.drain.contended = true
	for i := range 15 {
		r.knows(fmt.Sprint("other", i))
	}
	if got := r.mayGive("e"); got != 256/16 {
		t.Errorf("the endpoint may give %d, want its part of the slots: %d", got, 256/16)
	}
	for i := range 984 {
		r.knows(fmt.Sprint("another", i))
	}
	r.cursor = "d"
	if got := r.mayGive("e"); got != 1 {
		t.Errorf("among a thousand, the endpoint may give %d, want 1", got)
	}
}

// TestUnprovenEndpointsGetHalfOfTheSlotsAndThenOneEach: if all of them hang, the other slots still serve other endpoints.
func TestUnprovenEndpointsGetHalfOfTheSlotsAndThenOneEach(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.roundTrip("proven", slow())
	b := r.budget()
	for _, name := range []string{"a", "b"} {
		if n := r.room(&b, &b.part, r.endpoint(name)); n != initialLimit {
			t.Errorf("there is room for %d of %s, want %d", n, name, initialLimit)
		}
		r.begins(name, initialLimit)
	}
	room := func(name string) int {
		b := r.budget()
		return r.room(&b, &b.part, r.endpoint(name))
	}
	if n := room("c"); n != 1 {
		t.Errorf("there is room for %d of a third unproven endpoint, want 1", n)
	}
	r.begins("c", 1)
	if n := room("c"); n != 0 {
		t.Errorf("there is room for %d more of the third one, want none", n)
	}
	if n := room("proven"); n < initialLimit {
		t.Errorf("there is room for %d of the proven endpoint, want its window", n)
	}
	r.answers("a", 1, Answer{Kind: Timeout})
	r.answers("b", 1, quick())
	if n := room("d"); n != initialLimit {
		t.Errorf("after an answer there is room for %d of another unproven one, want %d", n, initialLimit)
	}
}

func TestAWorkerOfOneSlotServesUnprovenEndpoints(t *testing.T) {
	t.Parallel()
	if n := slots(t, 1, 1).knows("e").drains().mayGive("e"); n != 1 {
		t.Errorf("the endpoint may give %d, want 1", n)
	}
}

// TestAWorkerOfOneSlotEndsItsIdleDrain, although it has no slot that it could keep for new messages.
func TestAWorkerOfOneSlotEndsItsIdleDrain(t *testing.T) {
	t.Parallel()
	r := slots(t, 1, 1).drains()
	for range 100 {
		step := r.NextClaim(r.now)
		if step.Do == EndDrain && r.now.Sub(began) <= 2*drainLinger {
			return
		}
		if step.Do != WaitFor {
			t.Fatalf("the step is %v, want a wait", step)
		}
		r.now = step.Until
	}
	t.Errorf("after %v the drain still runs, want that it has ended", r.now.Sub(began))
}

func TestNoRequestBeginsAfterAStop(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 4)
	r.begins("e", 4)
	r.answers("e", 4, quick())
	r.begins("e", 14)
	if back := r.Stop(); len(back) != 10 {
		t.Errorf("%d messages go back, want 10", len(back))
	}
	if start, back := r.Claimed(r.now, r.gave("e", 2, 1), nil); len(start) != 0 || len(back) != 2 {
		t.Errorf("of two more messages, %d begin and %d go back; want that both go back", len(start), len(back))
	}
	if _, more, _ := r.Answered("e", quick(), r.now); more {
		t.Error("another request begins in the free slot, want none after the stop")
	}
}

// TestAClaimExceptsFullEndpointsFromRecentMessages: those without room, and unproven ones with a request in flight.
func TestAClaimExceptsFullEndpointsFromRecentMessages(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	except := func() []string {
		b := r.budget()
		_, names := r.keepForRecent(&b)
		slices.Sort(names)
		return names
	}
	r.begins("unproven", 1)
	r.begins("proven", 1)
	r.answers("proven", 1, quick())
	r.begins("proven", 1)
	r.begins("full", 4)
	r.answers("full", 1, quick())
	r.begins("full", 5)
	if got := fmt.Sprint(except()); got != "[full unproven]" {
		t.Errorf("the claim excepts %s, want full and unproven", got)
	}
	r.answers("unproven", 1, Answer{Kind: Timeout})
	r.answers("full", 4, quick())
	if got := except(); len(got) != 0 {
		t.Errorf("after their answers, the claim excepts %s, want none", got)
	}
}

// TestAClaimKeepsSlotsForRecentMessages, a quarter at most.
func TestAClaimKeepsSlotsForRecentMessages(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 0, 8: 2, 256: recentMost} {
		r := slots(t, n, n)
		b := r.budget()
		if most, _ := r.keepForRecent(&b); most != want || b.free != n-want {
			t.Errorf("of %d slots %d are kept for recent messages and %d are left, want %d kept", n, most, b.free, want)
		}
	}
}

// TestAWindowThatIsHalvedDuringAClaimKeepsItsMessages, and the next claim does not ask for a negative number.
func TestAWindowThatIsHalvedDuringAClaimKeepsItsMessages(t *testing.T) {
	t.Parallel()
	r := slots(t, 4, 4)
	r.begins("e", 4)
	r.answers("e", 4, quick())
	r.begins("e", 1)
	r.knows("e").drains()
	got := r.mayGive("e")
	r.answers("e", 1, Answer{Kind: Timeout, StartedAt: r.now})
	r.Claimed(r.now, r.gave("e", got+2, 1), nil)
	if r.ahead >= 0 {
		t.Fatalf("%d messages wait in a window of 2, and ahead is %d; want it negative: this test is about that", len(r.endpoint("e").waiting), r.ahead)
	}
	b := r.budget()
	if room := r.room(&b, &b.part, r.endpoint("other")); b.ahead != 0 || room < 1 {
		t.Errorf("the next claim may take %d ahead, and %d of another endpoint; want 0, and 1 at least", b.ahead, room)
	}
}

// TestWhileSuspendedNoRequestBegins: messages that wait go back, and so do those of a claim under way. After Resume, claims go
// on.
func TestWhileSuspendedNoRequestBegins(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := New(Config{MaxInFlight: 4, EndpointMaxInFlight: 1, PollInterval: time.Second, DrainTurn: time.Minute, Lease: time.Minute}, now)
	s.DrainBegan(now)
	s.Scanned(ScanOrder{Kind: Full}, []Candidate{{Endpoint: "a"}}, 0, now)
	if step := s.NextClaim(now); step.Do != Claim {
		t.Fatalf("the first step is %+v, want a claim", step)
	}
	two := []Message{{Endpoint: "a", ClaimedAt: now}, {Endpoint: "a", ClaimedAt: now}}
	if start, back := s.Claimed(now, two, nil); len(start) != 1 || len(back) != 0 {
		t.Fatalf("%d requests begin and %d messages go back, want 1 and none", len(start), len(back))
	}
	if back := s.Suspend(); len(back) != 1 {
		t.Errorf("%d messages go back, want the one that waits", len(back))
	}
	if step := s.NextClaim(now); step.Do != WaitFor {
		t.Errorf("while suspended, the next step is %+v, want a wait", step)
	}
	if start, back := s.Claimed(now, two, nil); len(start) != 0 || len(back) != 2 {
		t.Errorf("%d requests begin and %d messages go back, want none and 2", len(start), len(back))
	}
	if _, more, _ := s.Answered("a", Answer{Kind: Delivered, StartedAt: now}, now); more {
		t.Error("another request begins, want none while suspended")
	}
	s.Resume()
	if step := s.NextClaim(now); step.Do != Claim {
		t.Errorf("after Resume, the next step is %+v, want a claim", step)
	}
	if s.InFlight() != 0 {
		t.Errorf("%d requests are in flight, want none", s.InFlight())
	}
}
