package worker

import (
	"net/http"
	"sync"
	"time"
)

// slots bound the requests under way in this process, overall and per endpoint.
//
// An endpoint's own bound adapts, as a sender's window does: it begins at slotsInitial, grows by one with each answer
// once it was used up (and so doubles per round trip), and is halved by a time-out, a 429 or a 503, once per round trip.
// One that hangs thus soon holds a single slot; one that is quick has its full share in a few round trips.
//
// Invariants: free + reserved + Σ busy = max; 1 ≤ limit ≤ perEndpoint; an endpoint is kept while it is busy, and for
// windowKept longer if its limit is not the initial one. busy ≤ limit when a claim is made, and may exceed it after a
// halving.
type slots struct {
	perEndpoint int
	freed       chan struct{} // holds a token after a slot was freed

	mu        sync.Mutex
	free      int
	ended     int // requests since the last reservation
	endpoints map[string]*window
	sweptAt   time.Time
}

// windowKept is how long what was learned of an endpoint outlives its last request.
const windowKept = 30 * time.Second

// slotsInitial is what an endpoint that nothing is known of may have under way.
const slotsInitial = 8

// window is what one endpoint may have under way, and has.
type window struct {
	busy, limit int
	most        int       // the operator's bound, 0 for none
	full        bool      // all of it was in use since it was last empty
	halved      time.Time // a request begun before it does not halve the limit again
	last        time.Time // when a request last ended
}

func (w *window) room() int {
	limit := w.limit
	if w.most > 0 {
		limit = min(limit, w.most)
	}
	return max(limit-w.busy, 0)
}

func newSlots(max, perEndpoint int) *slots {
	return &slots{perEndpoint: perEndpoint, freed: make(chan struct{}, 1), free: max, endpoints: map[string]*window{}}
}

// initial is the limit of an endpoint that is not kept.
func (s *slots) initial() int { return min(slotsInitial, s.perEndpoint) }

// reserve takes every free slot and tells how much room is left at the endpoints that are kept.
func (s *slots) reserve() (n int, room map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(time.Now())
	n, s.free, s.ended = s.free, 0, 0
	room = make(map[string]int, len(s.endpoints))
	for endpoint, w := range s.endpoints {
		room[endpoint] = w.room()
	}
	return n, room
}

// release gives reserved slots back unused.
func (s *slots) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
}

// begin turns a reserved slot into a request to an endpoint, which an operator may have limited to most (0: not).
func (s *slots) begin(endpoint string, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.endpoints[endpoint]
	if w == nil {
		w = &window{limit: s.initial()}
		s.endpoints[endpoint] = w
	}
	w.busy++
	w.most = most
	w.full = w.full || w.busy >= w.limit
}

// end frees the slot of a request and learns from its answer.
func (s *slots) end(endpoint string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.endpoints[endpoint]
	switch {
	case crowded(a):
		if a.startedAt.After(w.halved) {
			w.limit, w.halved = max(w.limit/2, 1), time.Now()
		}
	case !a.sick() && (w.full || w.limit < s.initial()):
		w.limit = min(w.limit+1, s.perEndpoint)
	}
	w.last = time.Now()
	if w.busy--; w.busy == 0 {
		w.full = false
		if w.limit == s.initial() {
			delete(s.endpoints, endpoint)
		}
	}
	s.free++
	s.ended++
	token(s.freed)
}

// sweep forgets, once a second, the endpoints that have been idle for long.
func (s *slots) sweep(now time.Time) {
	if now.Sub(s.sweptAt) < time.Second {
		return
	}
	s.sweptAt = now
	for endpoint, w := range s.endpoints {
		if w.busy == 0 && now.Sub(w.last) > windowKept {
			delete(s.endpoints, endpoint)
		}
	}
}

// crowded reports an answer that says: too many at once.
func crowded(a answer) bool {
	return a.class == classTimeout || a.class == classStatus &&
		(a.statusCode == http.StatusTooManyRequests || a.statusCode == http.StatusServiceUnavailable)
}

// freedSince tells how many slots were freed since the last reservation.
func (s *slots) freedSince() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}
