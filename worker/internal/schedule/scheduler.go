package schedule

import (
	"slices"
	"sync"
	"time"
)

// Message is a claimed message, as far as the scheduler needs it.
type Message struct {
	Endpoint      string    // its lane
	OperatorLimit int       // an operator's limit of requests at once for the lane; 0 for none
	OriginLimit   int       // an operator's limit of requests at once to its origin, all lanes together; 0 for none
	Rate          float64   // an operator's limit of requests per second to the endpoint, all workers together; 0 for none
	DueFrom       time.Time // messages of its endpoint that were due before are taken
	ClaimedAt     time.Time
	Payload       any // the caller's own; never looked at here
}

// Candidate is an endpoint that has something to claim, and since when.
type Candidate struct {
	Endpoint string
	Since    time.Time
}

// Config of a scheduler. All fields must be set.
type Config struct {
	MaxInFlight         int
	EndpointMaxInFlight int
	PollInterval        time.Duration
	DrainTurn           time.Duration // how long one drain claims before it hands over to the next
	Lease               time.Duration // how long a claimed message belongs to a worker
}

// Scheduler holds what one worker knows of its endpoints, slots, claims and scans. Its methods may be called from any
// goroutine.
type Scheduler struct {
	config Config

	// ClaimLoop and ScanLoop get a token when an event happens that the loop's last Wait named.
	ClaimLoop, ScanLoop chan struct{}

	mu        sync.Mutex
	endpoints map[string]*endpoint
	owners    map[string]*owner
	origins   map[string]*origin
	circle    []string        // the candidates, sorted: those of one owner stand together, and have one turn
	cursor    string          // the endpoint that a claim asked last
	noUnasked map[string]bool // derived: the endpoints for which noUnaskedMessage holds
	// sharedOrigins, derived: those with several active owners, or with an operator's limit.
	sharedOrigins map[string]*origin
	sweptAt       time.Time

	free      int       // slots without a request
	ahead     int       // messages that may still be claimed ahead
	ready     []Message // claimed for whichever slot is free next, in the order of their claim; where endpoints contend for slots
	unproven  int       // slots held by endpoints that have not answered yet
	wantsSlot bool      // the last claim found too few slots: the end of any request is worth a claim
	stopped   bool      // no request begins any more
	suspended bool      // no request begins for now: others may take this worker for dead

	drain    drain
	scans    scans
	progress progress
}

// New returns a scheduler that knows no endpoint yet.
func New(c Config, now time.Time) *Scheduler {
	return &Scheduler{
		config: c, ClaimLoop: make(chan struct{}, 1), ScanLoop: make(chan struct{}, 1),
		endpoints: map[string]*endpoint{}, owners: map[string]*owner{}, origins: map[string]*origin{}, sharedOrigins: map[string]*origin{}, noUnasked: map[string]bool{},
		free: c.MaxInFlight, ahead: c.MaxInFlight,
		scans: scans{pollAt: now, recentFrom: now}, progress: progress{scannedAt: now, madeAt: now},
	}
}

// Do is what a loop does next.
type Do int

const (
	WaitFor     Do = iota // ask again at Step.Until, or when the loop's channel has a token
	Claim                 // claim Step.Order, then report Claimed or ClaimFailed
	EndDrain              // return from the River job
	Scan                  // scan as Step.Scan says, in the background, then report Scanned or ScanFailed
	InsertDrain           // insert a River job for a drain; report InsertFailed if that fails
)

// Step is one decision.
type Step struct {
	Do    Do
	Order Order     // of Claim
	Scan  ScanOrder // of Scan
	Until time.Time // of WaitFor
	For   Events    // of WaitFor: what ends the wait early
}

// Events are what a loop may wait for, besides a time.
type Events uint8

const (
	Wake          Events = 1 << iota // a notification, or a scan's result, shows that something became due
	SlotFreed                        // a request ended whose slot the last claim wanted
	EnoughAnswers                    // enough requests ended to make the next claim worth a statement
)

// token puts one into a channel that holds one, if it is empty.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// endpoint returns the state of an endpoint, a new one if none is kept.
func (s *Scheduler) endpoint(name string) *endpoint {
	e := s.endpoints[name]
	if e == nil {
		e = &endpoint{name: name, owner: s.ownerOf(name), limit: min(initialLimit, s.config.EndpointMaxInFlight)}
		e.owner.lanes++
		s.endpoints[name] = e
	}
	return e
}

// sweep forgets, once a second, the endpoints that are no candidates and have been idle for long.
func (s *Scheduler) sweep(now time.Time) {
	if now.Sub(s.sweptAt) < time.Second {
		return
	}
	s.sweptAt = now
	for _, e := range s.endpoints {
		if !e.candidate && e.inFlight+e.ready == 0 && now.Sub(e.answeredAt) > endpointKept {
			s.forget(e)
		}
	}
}

// noteUnasked updates noUnasked after a change of the endpoint.
func (s *Scheduler) noteUnasked(e *endpoint) {
	if e.noUnaskedMessage() {
		s.noUnasked[e.name] = true
	} else {
		delete(s.noUnasked, e.name)
	}
}

// addCandidates takes what a scan or a claim found.
func (s *Scheduler) addCandidates(all []Candidate) {
	for _, c := range all {
		e := s.endpoint(c.Endpoint)
		if !e.candidate {
			e.candidate, e.from = true, c.Since
			s.noteActive(e)
			at, _ := slices.BinarySearch(s.circle, e.name)
			s.circle = slices.Insert(s.circle, at, e.name)
		}
		if c.Since.Before(e.from) { // it was committed late, or given back by the worker that had claimed it
			e.from = c.Since
		}
		e.misses = 0
		e.found++
	}
}

func (s *Scheduler) dropCandidate(e *endpoint) {
	e.candidate, e.misses = false, 0
	s.noteActive(e)
	if at, ok := slices.BinarySearch(s.circle, e.name); ok {
		s.circle = slices.Delete(s.circle, at, at+1)
	}
}

// begin gives a claimed message a slot, or makes it wait for one. It reports whether its request begins now.
func (s *Scheduler) begin(m Message) (now bool) {
	e := s.endpoint(m.Endpoint)
	e.operatorLimit = m.OperatorLimit
	if o := e.owner.origin; o.operatorLimit != m.OriginLimit {
		o.operatorLimit = m.OriginLimit
		s.noteShared(o)
	}
	defer s.noteUnasked(e)
	if s.free <= 0 && (e.inFlight == 0 || s.drain.contended && e.room() > 0 && e.maybeReady()) {
		s.makeReady(e, m)
		return false
	}
	if e.inFlight > 0 && (e.inFlight >= e.bound() || s.free <= 0 || !s.hasRoom(e)) {
		e.waiting = append(e.waiting, m)
		s.ahead--
		return false
	}
	s.free--
	s.inFlightBy(e, 1)
	e.usedUp = e.usedUp || e.inFlight >= e.limit
	if !e.proven {
		s.unproven++
	}
	return true
}

// Answered takes the answer of a request, learns from it, and frees its slot or hands it to next, a message that was
// claimed ahead for this endpoint, or for any slot. Those in back are to be released: they are due again, and no attempt is counted.
func (s *Scheduler) Answered(name string, a Answer, now time.Time) (next Message, more bool, back []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.endpoints[name]
	defer s.noteUnasked(e)
	wasProven := e.proven
	if e.learn(a, s.config.EndpointMaxInFlight, now); e.proven && !wasProven {
		s.unproven -= e.inFlight
	}
	s.drain.answered++
	if e.wantsSlot || s.wantsSlot {
		s.freedSlot()
	}
	if s.drain.answered == s.drain.enough && s.drain.waitsFor&EnoughAnswers != 0 {
		token(s.ClaimLoop)
	}
	if a.backsOff() {
		back = s.takeBack(e)
	} else if len(e.waiting) > 0 && now.Sub(e.waiting[0].ClaimedAt) > aheadKept {
		back = s.takeWaiting(e)
	}
	if len(e.waiting) > 0 && s.keepsSlot(e) {
		next, e.waiting[0] = e.waiting[0], Message{}
		e.waiting = e.waiting[1:]
		s.ahead++
		return next, true, back
	}
	s.inFlightBy(e, -1)
	if e.inFlight == 0 {
		e.usedUp = false
		back = append(back, s.takeWaiting(e)...)
	}
	if !e.proven {
		s.unproven--
	}
	s.free++
	next, more, old := s.startReady(now)
	return next, more, append(back, old...)
}

// freedSlot notes that a request ended whose slot the last claim wanted.
func (s *Scheduler) freedSlot() {
	s.drain.slotFreed = true
	if s.drain.waitsFor&SlotFreed != 0 {
		token(s.ClaimLoop)
	}
}

// Stop takes back all that was claimed ahead. From now on no request begins: what a claim still brings goes back.
func (s *Scheduler) Stop() (back []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return s.takeAllBack()
}

// Suspend takes back all messages claimed ahead. Until Resume, no request begins and nothing is claimed: what an ongoing claim
// takes is given back.
func (s *Scheduler) Suspend() (back []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = true
	return s.takeAllBack()
}

// Resume ends Suspend.
func (s *Scheduler) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspended {
		s.suspended, s.drain.recent, s.scans.owed = false, true, true
		token(s.ClaimLoop)
		token(s.ScanLoop)
	}
}

// InFlight is how many slots are taken.
func (s *Scheduler) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.MaxInFlight - s.free
}
