package schedule

import "time"

// endpoint is all that this process knows of one lane: of an origin, a tenant there, or a URL that was set aside (package
// lane). It is kept while it is a candidate, while requests are in
// flight, and for endpointKept after the last answer.
type endpoint struct {
	name  string
	owner *owner
	// active: it is a candidate or has a request in flight, and counts at its owner.
	active bool

	// candidate: it has something due, as far as is known, and stands in the circle. A scan or a claim that finds
	// something there sets it. missesMax claims in a row that take nothing there clear it.
	candidate bool
	// from is the due time at which the next claim begins; what was due before is taken. A claim moves it on to what it
	// took last. A scan that finds something earlier (committed late, given up by another worker) moves it back.
	from time.Time
	// misses counts claims in a row that asked for it and took nothing. Each of them descended the index once. A claim that takes
	// something, or a scan that finds something, sets it to 0.
	misses int
	// found counts how often it was found. If that changes during a claim, the claim's result is older than what was found,
	// and changes nothing here.
	found int
	// grantAt is when its rate limit gives something again; no claim asks for it before. Each claim of an endpoint with a
	// rate sets it. Zero without a rate.
	grantAt time.Time
	// rate is the operator's limit in requests per second, of all workers together; 0 for none. Each claimed message
	// brings the current one.
	rate float64

	// inFlight counts requests in flight. A start adds one, an answer takes one away or hands its slot on.
	inFlight int
	// limit is the adaptive bound of inFlight. It begins at initialLimit, grows by one with each healthy answer once the
	// window was used up (so it doubles per round trip), and is halved by an answer that says "too many at once", once
	// per round trip.
	limit int
	// operatorLimit is the operator's bound of inFlight, 0 for none. Each claimed message brings the current one.
	operatorLimit int
	// usedUp: the whole window was in flight at some time since it was last empty. Only then does it grow.
	usedUp bool
	// proven: it has given a healthy answer. Until then its requests count as unproven. Never cleared.
	proven bool
	// wantsSlot: the last claim might have taken more here, so the end of a request here is worth a claim. Each claim that asks
	// this endpoint sets it again.
	wantsSlot bool
	// duration is how long a request takes, as a moving average of healthy answers. 0 before the first.
	duration time.Duration
	// waiting are messages claimed ahead, in the order of their claim. Each waits for a slot of this window.
	waiting []Message
	// ready counts its messages in Scheduler.ready.
	ready int
	// halvedAt is when limit was halved last; a request that began earlier does not halve it again.
	halvedAt time.Time
	// answeredAt is when a request last ended.
	answeredAt time.Time
}

const (
	endpointKept   = 30 * time.Second      // how long the state of an endpoint is kept after its last request
	initialLimit   = 4                     // the window of an endpoint that has not answered yet
	aheadTime      = 40 * time.Millisecond // claims are batchPace apart, or as long as they take on a busy machine
	aheadKept      = time.Second           // a message that waited for longer is given back at the next answer
	durationWeight = 8                     // the last answer counts one eighth of the average
	durationMin    = 100 * time.Microsecond
	missesMax      = 3
)

// bound is how many requests may be in flight at once.
func (e *endpoint) bound() int {
	if e.operatorLimit > 0 {
		return min(e.limit, e.operatorLimit)
	}
	return e.limit
}

// room is how many more requests may begin, besides those that are ready to.
func (e *endpoint) room() int { return max(e.bound()-e.inFlight-e.ready, 0) }

// answersAhead is how many answers the endpoint gives in aheadTime with its whole window in use. That many messages are worth
// claiming ahead.
func (e *endpoint) answersAhead(window int) int {
	if e.duration == 0 {
		return 0
	}
	return int(time.Duration(window) * aheadTime / max(e.duration, durationMin))
}

// noUnaskedMessage reports that the endpoint may not get a message without a turn: it has no room, or it is unproven and
// has a request in flight.
func (e *endpoint) noUnaskedMessage() bool {
	return e.inFlight > 0 && (!e.proven || e.inFlight >= e.bound())
}

// learn adjusts the window to an answer. most is the configured bound of every window.
func (e *endpoint) learn(a Answer, most int, now time.Time) {
	e.answeredAt = now
	switch {
	case a.Kind == Moved:
		return
	case a.overloaded():
		if a.StartedAt.After(e.halvedAt) {
			e.limit, e.halvedAt = max(e.limit/2, 1), now
		}
	case !a.Unhealthy() && (e.usedUp || e.limit < min(initialLimit, most)):
		e.limit = min(e.limit+1, most)
	}
	if a.Unhealthy() {
		return
	}
	e.proven = true
	if e.duration == 0 {
		e.duration = a.Duration
	}
	e.duration += (a.Duration - e.duration) / durationWeight
}

// grantInterval is how long a claim waits before it asks an endpoint with a rate again: at least the time of one request, and at least
// rateInterval, so that each claim takes several. As long as the claims are at most a second apart, they use the whole rate.
// poll bounds it, so that a changed rate is noticed.
func (e *endpoint) grantInterval(poll time.Duration) time.Duration {
	perRequest := time.Duration(min(float64(time.Second)/e.rate, float64(poll)))
	return min(max(perRequest, rateInterval), poll)
}

const rateInterval = 100 * time.Millisecond
