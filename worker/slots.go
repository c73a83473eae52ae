package worker

import "sync"

// slots bound the requests under way in this process, overall and per endpoint.
//
// Invariants: free + reserved + Σ busy = max; 0 ≤ busy[e] ≤ perEndpoint, for a claim takes no more than room says and
// there is one claim at a time; busy holds no zeros.
type slots struct {
	perEndpoint int
	freed       chan struct{} // holds a token after a slot was freed

	mu    sync.Mutex
	free  int
	ended int // requests since the last reservation
	busy  map[string]int
}

func newSlots(max, perEndpoint int) *slots {
	return &slots{perEndpoint: perEndpoint, freed: make(chan struct{}, 1), free: max, busy: map[string]int{}}
}

// reserve takes every free slot and tells how much room is left at the endpoints that are busy.
func (s *slots) reserve() (n int, room map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, s.free, s.ended = s.free, 0, 0
	room = make(map[string]int, len(s.busy))
	for endpoint, busy := range s.busy {
		room[endpoint] = s.perEndpoint - busy
	}
	return n, room
}

// release gives reserved slots back unused.
func (s *slots) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
}

// begin turns a reserved slot into a request to an endpoint.
func (s *slots) begin(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[endpoint]++
}

// end frees the slot of a request.
func (s *slots) end(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[endpoint]--; s.busy[endpoint] == 0 {
		delete(s.busy, endpoint)
	}
	s.free++
	s.ended++
	token(s.freed)
}

// freedSince tells how many slots were freed since the last reservation.
func (s *slots) freedSince() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}
