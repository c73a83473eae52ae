package worker

import (
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
		s.begin(endpoint, 0)
	}
}

// roundTrip fills the endpoint's window and answers everything in it alike.
func roundTrip(s *slots, endpoint string, a answer) (busy int) {
	n, room := s.reserve()
	busy, known := room[endpoint]
	if !known {
		busy = s.initial()
	}
	s.release(n - busy)
	beginAll(s, endpoint, busy)
	a.startedAt = time.Now()
	endAll(s, endpoint, busy, a)
	return busy
}

func TestAQuickEndpointsShareGrowsToItsBoundInAFewRoundTrips(t *testing.T) {
	t.Parallel()
	s := newSlots(256, 64)
	beginAll(s, "e", 1) // kept, as under steady load
	s.free--
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
	if n, _ := s.reserve(); n != 10 {
		t.Errorf("%d slots are free, want 10", n)
	}
	for endpoint, w := range s.endpoints {
		if w.busy != 0 {
			t.Errorf("%s is busy with %d", endpoint, w.busy)
		}
	}
}
