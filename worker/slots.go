package worker

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// slots bound the requests under way in this process, overall and per endpoint, and the messages that wait here for one.
//
// An endpoint's own bound adapts, as a sender's window does: it begins at slotsInitial, grows by one with each answer
// once it was used up (and so doubles per round trip), and is halved by a time-out, a 429 or a 503, once per round trip.
// One that hangs thus soon holds a single slot; one that is quick has its full share in a few round trips.
//
// A quick endpoint answers its whole window between two claims. So that it need not wait for the next one, its messages
// are claimed ahead: as many as it answers in aheadTime. They wait in its window for a slot of its own, and go back when
// it falters.
//
// Invariants: free + Σ busy = max; ahead + Σ waiting = max; 1 ≤ limit ≤ perEndpoint; where messages wait, a request
// is under way. busy ≤ limit when a request begins, and may exceed it after a halving; what was claimed for a window that is
// halved meanwhile waits there, and ahead may be less than 0 for so long.
type slots struct {
	max, perEndpoint int
	freed            chan struct{} // holds a token after a request ended whose slot was wanted
	worthEnded       chan struct{} // holds one after as many ended as are worth a claim

	mu        sync.Mutex
	free      int
	ahead     int  // messages that may still be claimed ahead
	strangers int  // slots held by endpoints that have not answered yet
	ended     int  // requests since the last claim
	worth     int  // of them are worth the next one
	wanted    bool // the slot of whatever request ends next: the last claim found too few
	grounded  bool
	endpoints map[string]*window
	taken     map[string]bool // the endpoints that may not get a message more without being asked for their room
	sweptAt   time.Time
}

const (
	windowKept   = 30 * time.Second      // how long what was learned of an endpoint outlives its last request
	slotsInitial = 4                     // what an endpoint that nothing is known of may have under way
	aheadTime    = 40 * time.Millisecond // claims are batchPace apart, or as long as they take on a busy machine
	aheadKept    = time.Second           // a message that waited for longer goes back at the next answer; less than a lease leaves beyond a request (LeaseMargin)
	tookWeight   = 8                     // of the last answer among those before: one eighth
)

// window is what one endpoint may have under way, and has.
type window struct {
	busy, limit int
	most        int           // the operator's bound, 0 for none
	full        bool          // all of it was in use since it was last empty
	answered    bool          // at all: until then it is a stranger
	wanted      bool          // its next slot: the last claim might have taken more
	took        time.Duration // a request, about
	waiting     []message     // claimed ahead
	halved      time.Time     // a request begun before it does not halve the limit again
	last        time.Time     // when a request last ended
}

// bound is what may be under way at once.
func (w *window) bound() int {
	if w.most > 0 {
		return min(w.limit, w.most)
	}
	return w.limit
}

// answers is how many the endpoint gives in aheadTime, with all of its window in use.
func (w *window) answers() int {
	if w.took == 0 {
		return 0
	}
	return int(time.Duration(w.bound()) * aheadTime / max(w.took, 100*time.Microsecond))
}

func newSlots(most, perEndpoint int) *slots {
	return &slots{
		max: most, perEndpoint: perEndpoint, freed: make(chan struct{}, 1), worthEnded: make(chan struct{}, 1), free: most, ahead: most,
		endpoints: map[string]*window{}, taken: map[string]bool{},
	}
}

// budget is what one claim may take. Only the drain begins requests, so that what is free stays so.
type budget struct {
	slots                  *slots
	free, ahead, strangers int
	part                   int  // of what is free, for each endpoint
	short                  bool // an endpoint could have given more, had there been more slots
}

// budget begins a claim. In a crowd of endpoints, each gets an equal part of what is free, and nothing ahead.
func (s *slots) budget(crowd int) *budget {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(time.Now())
	s.ended = 0
	b := &budget{slots: s, free: s.free, ahead: max(s.ahead, 0), strangers: (s.max+1)/2 - s.strangers, part: s.free}
	if crowd > 0 {
		b.ahead, b.part = 0, max(s.free/crowd, 1)
	}
	s.wanted = b.free == 0
	return b
}

// room takes from the budget what an endpoint may give. Strangers together get half of all slots, and beyond that one
// each: where many hang at once, it takes as many of them as there are slots left to keep those out that answer.
func (b *budget) room(endpoint string) int {
	s := b.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.endpoints[endpoint]
	if w == nil {
		w = &window{limit: s.initial()}
	}
	now := max(w.bound()-w.busy, 0)
	w.wanted = now == 0
	now = min(now, b.part)
	b.short = b.short || now > b.free
	now = min(now, b.free)
	if !w.answered {
		least := 0
		if w.busy == 0 {
			least = 1
		}
		given := min(now, max(b.strangers, least))
		s.wanted = s.wanted || given < now
		now = given
		b.strangers -= now
	}
	b.free -= now
	s.wanted = s.wanted || b.short
	if w.busy+now == 0 {
		return now
	}
	ahead := min(max(w.answers()-len(w.waiting), 0), b.ahead)
	b.ahead -= ahead
	return now + ahead
}

// freshMost is how many slots a claim keeps back for endpoints that it does not know of yet.
const freshMost = 16

// fresh keeps back slots for endpoints that are not asked for their room, one each, and says which may not get one: those
// that have no room, and the strangers that have a request under way. It comes before the first call of room.
func (b *budget) fresh() (most int, except []string) {
	b.slots.mu.Lock()
	defer b.slots.mu.Unlock()
	most = min(freshMost, b.free/4)
	b.free -= most
	return most, slices.Collect(maps.Keys(b.slots.taken))
}

// note keeps taken.
func (s *slots) note(endpoint string, w *window) {
	if taken := w.busy > 0 && (!w.answered || w.busy >= w.bound()); taken {
		s.taken[endpoint] = true
	} else {
		delete(s.taken, endpoint)
	}
}

// initial is the limit of an endpoint that is not kept.
func (s *slots) initial() int { return min(slotsInitial, s.perEndpoint) }

// begin gives a claimed message, whose endpoint an operator may have limited to most (0: not), a slot, or has it wait for
// one. Neither: no request begins any more.
func (s *slots) begin(m message) (now, later bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grounded {
		return false, false
	}
	w := s.endpoints[m.endpoint]
	if w == nil {
		w = &window{limit: s.initial()}
		s.endpoints[m.endpoint] = w
	}
	w.most = m.endpointMax
	defer s.note(m.endpoint, w)
	if w.busy > 0 && (w.busy >= w.bound() || s.free <= 0) {
		w.waiting = append(w.waiting, m)
		s.ahead--
		return false, true
	}
	s.free--
	w.busy++
	w.full = w.full || w.busy >= w.limit
	if !w.answered {
		s.strangers++
	}
	return true, false
}

// end takes the answer of a request, learns from it, and frees its slot, or hands it to the next message that waits at
// the endpoint. What is to go back goes back.
func (s *slots) end(endpoint string, a answer) (next message, more bool, back []message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.endpoints[endpoint]
	defer s.note(endpoint, w)
	w.learn(a, s)
	s.ended++
	if w.wanted || s.wanted {
		token(s.freed)
	}
	if s.ended == s.worth {
		token(s.worthEnded)
	}
	if len(w.waiting) > 0 && (falters(a) || time.Since(w.waiting[0].claimedAt) > aheadKept) {
		back = s.takeBack(w)
	}
	if len(w.waiting) > 0 && w.busy <= w.bound() {
		next, w.waiting[0] = w.waiting[0], message{}
		w.waiting = w.waiting[1:]
		s.ahead++
		return next, true, back
	}
	w.busy--
	if w.busy == 0 {
		w.full = false
	}
	if !w.answered {
		s.strangers--
	}
	s.free++
	return message{}, false, back
}

func (w *window) learn(a answer, s *slots) {
	now := time.Now()
	w.last = now
	switch {
	case crowded(a):
		if a.startedAt.After(w.halved) {
			w.limit, w.halved = max(w.limit/2, 1), now
		}
	case !a.sick() && (w.full || w.limit < s.initial()):
		w.limit = min(w.limit+1, s.perEndpoint)
	}
	if a.sick() {
		return
	}
	if !w.answered {
		w.answered = true
		s.strangers -= w.busy
	}
	if w.took == 0 {
		w.took = a.duration
	}
	w.took += (a.duration - w.took) / tookWeight
}

func (s *slots) takeBack(w *window) []message {
	back := w.waiting
	w.waiting = nil
	s.ahead += len(back)
	return back
}

// ground takes back all that waits; from now on no request begins.
func (s *slots) ground() (back []message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grounded = true
	for _, w := range s.endpoints {
		back = append(back, s.takeBack(w)...)
	}
	return back
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

// falters reports an answer after which nothing more is to be sent for now: too many at once, or no answer at all.
func falters(a answer) bool { return crowded(a) || a.sick() && a.class != classStatus }

// want has the end of a request at an endpoint be told: more may be due there.
func (s *slots) want(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.endpoints[endpoint]
	if w == nil || w.busy == 0 { // all of it ended meanwhile
		token(s.freed)
		return
	}
	w.wanted = true
}

// hasRoom reports whether one more request may begin at an endpoint, if a slot is free.
func (s *slots) hasRoom(endpoint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.endpoints[endpoint]
	return w == nil || w.busy < w.bound()
}

// enough returns a channel that delivers once so many requests have ended since the last claim began.
func (s *slots) enough(worth int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.worthEnded: // of an earlier claim
	default:
	}
	s.worth = worth
	if s.ended >= worth {
		token(s.worthEnded)
	}
	return s.worthEnded
}
