package schedule

import (
	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// origin is what the lanes of one scheme, host and port share: a limit of requests at once.
type origin struct {
	name     string
	inFlight int // Σ of its owners
	active   int // owners with a candidate or a request in flight: they share what is allowed
	owners   int // known ones; without any, it is forgotten
	// operatorLimit is the operator's bound of inFlight, 0 for none. Each claimed message brings the current one.
	operatorLimit int
}

// owner is a tenant at an origin, or the messages without a tenant there. It has one turn, however many of its URLs have a
// lane of their own.
type owner struct {
	name     string
	origin   *origin
	inFlight int // Σ of its lanes
	active   int // lanes that are candidates or have a request in flight
	lanes    int // known ones; without any, it is forgotten
	// asked is the lane that a claim asked last: the next turn begins behind it.
	asked string
}

// most is how many requests may be in flight at an origin.
func (o *origin) most(configured int) int {
	if o.operatorLimit > 0 {
		return min(configured, o.operatorLimit)
	}
	return configured
}

// share is how many of them an owner may have, while others are active: an equal part.
func (o *origin) share(configured int) int {
	return max(o.most(configured)/max(o.active, 1), 1)
}

// isAlone reports that nothing but a lane's own window bounds it.
func (o *owner) isAlone() bool {
	return o.active <= 1 && o.origin.active <= 1 && o.origin.operatorLimit == 0
}

// ownerOf returns the owner of a lane, a new one if it is not known.
func (s *Scheduler) ownerOf(name string) *owner {
	name = lane.Owner(name)
	o := s.owners[name]
	if o == nil {
		at := lane.Origin(name)
		if s.origins[at] == nil {
			s.origins[at] = &origin{name: at}
		}
		o = &owner{name: name, origin: s.origins[at]}
		o.origin.owners++
		s.owners[name] = o
	}
	return o
}

// forget drops a lane, and its owner and origin with the last one.
func (s *Scheduler) forget(e *endpoint) {
	delete(s.endpoints, e.name)
	o := e.owner
	if o.lanes--; o.lanes > 0 {
		return
	}
	delete(s.owners, o.name)
	if o.origin.owners--; o.origin.owners == 0 {
		delete(s.origins, o.origin.name)
		delete(s.sharedOrigins, o.origin.name)
	}
}

// noteActive updates the counts of active lanes and owners after a change of a lane.
func (s *Scheduler) noteActive(e *endpoint) {
	active := e.candidate || e.inFlight > 0
	if active == e.active {
		return
	}
	e.active = active
	if active {
		if e.owner.active++; e.owner.active == 1 {
			e.owner.origin.active++
			s.noteShared(e.owner.origin)
		}
		return
	}
	if e.owner.active--; e.owner.active == 0 {
		e.owner.origin.active--
		s.noteShared(e.owner.origin)
	}
}

// inFlightBy counts requests of a lane that begin (1) or end (-1).
func (s *Scheduler) inFlightBy(e *endpoint, n int) {
	e.inFlight += n
	e.owner.inFlight += n
	e.owner.origin.inFlight += n
	s.noteActive(e)
}

// shared is how many more requests a lane may begin by the limits that it shares at its origin. taken counts
// those that were promised a moment ago, by owner and origin.
func (s *Scheduler) shared(e *endpoint, taken map[any]int) int {
	if e.owner.isAlone() {
		return s.config.EndpointMaxInFlight
	}
	o := e.owner.origin
	ofOwner := o.share(s.config.EndpointMaxInFlight) - e.owner.inFlight - taken[e.owner]
	ofOrigin := o.most(s.config.EndpointMaxInFlight) - o.inFlight - taken[o]
	return max(min(ofOwner, ofOrigin), 0)
}

// keepsSlot reports that a request that ends may hand its slot to the next one of its lane.
func (s *Scheduler) keepsSlot(e *endpoint) bool {
	if e.inFlight > e.bound() {
		return false
	}
	if e.owner.isAlone() {
		return true
	}
	o := e.owner.origin
	return e.owner.inFlight <= o.share(s.config.EndpointMaxInFlight) && o.inFlight <= o.most(s.config.EndpointMaxInFlight)
}

// hasRoom reports that one more request of a lane may begin by the limits that it shares at its origin.
func (s *Scheduler) hasRoom(e *endpoint) bool { return s.shared(e, nil) > 0 }

// noteShared updates sharedOrigins after a change of an origin.
func (s *Scheduler) noteShared(o *origin) {
	if o.active > 1 || o.operatorLimit > 0 {
		s.sharedOrigins[o.name] = o
	} else {
		delete(s.sharedOrigins, o.name)
	}
}

// fullOrigins are the origins with all allowed requests in flight, except those that only one lane's window bounds.
func (s *Scheduler) fullOrigins() (names []string) {
	for name, o := range s.sharedOrigins {
		if o.inFlight >= o.most(s.config.EndpointMaxInFlight) {
			names = append(names, name)
		}
	}
	return names
}
