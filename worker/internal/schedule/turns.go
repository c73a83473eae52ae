package schedule

import (
	"maps"
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// Order is what a claim is asked for.
type Order struct {
	Most  int    // messages in all
	Turns []Turn // the endpoints to serve, in this order
	// Of endpoints without a turn that something was written for since the last claim, one message each is taken, of
	// Recent of them, except those in Except.
	Recent int
	Except []string
}

// Turn is one endpoint's part of a claim: at most Most of its messages that are due since From.
type Turn struct {
	Endpoint string
	From     time.Time
	Most     int
}

// pending is an ordered claim, until its result is known.
type pending struct {
	turns []Turn
	found []int     // of each turn's endpoint, when it was asked
	most  int       // of the order
	full  bool      // an endpoint has no room: more may be due there
	rest  bool      // there are more candidates than were asked
	short bool      // an endpoint could have given more, had there been more slots
	grant time.Time // when the first endpoint that was passed over for its rate may be asked again; zero: none was
}

// ask fills the next turns, at most n, from the owner behind the one that was asked last.
func (s *Scheduler) ask(p *pending, n int, b *budget, now time.Time) {
	for i, at := 0, s.behind(s.cursor); i < len(s.circle); {
		group := s.group(at)
		if !s.askOwner(p, n, group, b, now) {
			return
		}
		i, at = i+len(group), (at+len(group))%len(s.circle)
	}
}

// behind is where the circle goes on behind the owner of a lane.
func (s *Scheduler) behind(cursor string) int {
	at, found := slices.BinarySearch(s.circle, cursor)
	if found {
		at++
	}
	for owner := lane.Owner(cursor); at < len(s.circle) && s.endpoints[s.circle[at]].owner.name == owner; at++ {
	}
	if at == len(s.circle) {
		return 0
	}
	return at
}

// group are the candidates from one on that have its owner.
func (s *Scheduler) group(at int) []string {
	end, owner := at+1, s.endpoints[s.circle[at]].owner
	for end < len(s.circle) && s.endpoints[s.circle[end]].owner == owner {
		end++
	}
	return s.circle[at:end]
}

// askOwner fills the turns of one owner's lanes: from the lane behind the one that was asked last, and of all lanes together
// no more than one owner's part. It reports false when there are n turns.
func (s *Scheduler) askOwner(p *pending, n int, group []string, b *budget, now time.Time) (more bool) {
	first := 0
	if len(group) > 1 {
		var found bool
		if first, found = slices.BinarySearch(group, s.endpoints[group[0]].owner.asked); found {
			first++
		}
	}
	part := b.part
	for i := range group {
		if len(p.turns) == n {
			p.rest = true
			return false
		}
		e := s.endpoints[group[(first+i)%len(group)]]
		if e.grantAt.After(now) {
			p.grants(e.grantAt)
			continue
		}
		if part == 0 && i > 0 {
			p.rest = true
			return true
		}
		most := s.room(b, &part, e)
		if most == 0 {
			p.full = true
			continue
		}
		p.turns = append(p.turns, Turn{Endpoint: e.name, From: e.from, Most: most})
		p.found = append(p.found, e.found)
	}
	return true
}

// grants notes that an endpoint's rate gives something at a time.
func (p *pending) grants(at time.Time) {
	if p.grant.IsZero() || at.Before(p.grant) {
		p.grant = at
	}
}

// settle moves the candidates on to what a claim took. all says that the claim took all it might, and so did not come to
// the last turns.
func (s *Scheduler) settle(messages []Message, all bool, now time.Time) {
	p := &s.drain.pending
	from := map[string]time.Time{}
	for _, m := range messages {
		if m.DueFrom.After(from[m.Endpoint]) {
			from[m.Endpoint] = m.DueFrom
		}
		if e := s.endpoints[m.Endpoint]; e.rate != m.Rate {
			e.rate, e.grantAt = m.Rate, time.Time{}
		}
	}
	reached := len(p.turns)
	for ; all && reached > 0 && from[p.turns[reached-1].Endpoint].IsZero(); reached-- { // the last that gave was the last that was reached
	}
	for i, t := range p.turns[:reached] {
		e := s.endpoints[t.Endpoint]
		if e.rate > 0 {
			e.grantAt = now.Add(e.grantInterval(s.config.PollInterval))
			p.grants(e.grantAt)
		}
		s.settleTurn(e, from[t.Endpoint], p.found[i])
		s.cursor, e.owner.asked = t.Endpoint, t.Endpoint
	}
}

// settleTurn moves one candidate on. from is the due time that the claim came to there, zero when it took nothing.
func (s *Scheduler) settleTurn(e *endpoint, from time.Time, found int) {
	switch {
	case e.found != found: // it was found again meanwhile, perhaps from an earlier time on
	case !from.IsZero():
		e.from, e.misses = from, 0
	case e.misses+1 >= missesMax:
		s.dropCandidate(e)
	default:
		e.misses++
	}
}

// outcome marks the endpoints that gave all they might, so that the end of a request there is worth a claim. more says
// that a claim would serve one of the endpoints left behind.
func (s *Scheduler) outcome(messages []Message, left []Candidate) (usedUp, more bool) {
	gave := map[string]int{}
	for _, m := range messages {
		gave[m.Endpoint]++
	}
	for _, t := range s.drain.pending.turns {
		e := s.endpoints[t.Endpoint]
		if gave[t.Endpoint] != t.Most || e.grantAt.After(s.drain.claimedAt) {
			continue
		}
		usedUp = true
		if e.inFlight == 0 { // all of it ended meanwhile
			s.freedSlot()
		} else {
			e.wantsSlot = true
		}
	}
	for _, c := range left {
		e := s.endpoints[c.Endpoint]
		more = more || e.room() > 0 && s.shared(e, nil) > 0 && !e.grantAt.After(s.drain.claimedAt)
	}
	return usedUp, more
}

// budget is what one claim may take. Only claims begin requests, so what is free stays free until the claim is made.
type budget struct {
	free, ahead, unproven int
	ready                 int         // messages that wait for the next slot, where endpoints contend
	part                  int         // of what is free, for each owner
	short                 bool        // an endpoint could have given more, had there been more slots
	taken                 map[any]int // what owners and origins with several lanes were promised
}

func (s *Scheduler) budget() budget {
	b := budget{free: s.free, ahead: max(s.ahead, 0), unproven: (s.config.MaxInFlight+1)/2 - s.unproven, part: s.free}
	if n := s.ownersInCircle(); s.drain.contended && n > 0 {
		b.ahead, b.ready, b.part = 0, s.readyRoom(), max(s.free/n, 1)
	}
	s.wantsSlot = b.free == 0
	return b
}

// room takes from the budget what an endpoint may give. The unproven endpoints together get half of all slots, and beyond
// that one each: where many hang at once, it takes as many of them as there are slots left to keep out those that answer.
func (s *Scheduler) room(b *budget, part *int, e *endpoint) int {
	now := min(e.room(), s.shared(e, b.taken))
	e.wantsSlot = now == 0
	now = min(now, *part)
	left := b.free
	if e.maybeReady() {
		left += b.ready
	}
	if now > left {
		b.short, b.ready = true, max(left-b.free, 0) // an endpoint behind this one in the circle gets nothing before it
		now = left
	}
	if !e.proven {
		least := 0
		if e.inFlight == 0 {
			least = 1
		}
		given := min(now, max(b.unproven, least))
		s.wantsSlot = s.wantsSlot || given < now
		now = given
		b.unproven -= now
	}
	b.ready -= max(now-b.free, 0)
	b.free -= min(now, b.free)
	*part -= now
	b.promise(e, now)
	s.wantsSlot = s.wantsSlot || b.short
	if e.inFlight+now == 0 {
		return now
	}
	ahead := min(max(e.answersAhead(s.window(e))-len(e.waiting), 0), b.ahead)
	b.ahead -= ahead
	return now + ahead
}

// window is how many requests a lane may have in flight, with the others of its origin.
func (s *Scheduler) window(e *endpoint) int {
	if e.owner.isAlone() {
		return e.bound()
	}
	return min(e.bound(), e.owner.origin.share(s.config.EndpointMaxInFlight))
}

// promise counts what lanes that share an origin were promised.
func (b *budget) promise(e *endpoint, n int) {
	if e.owner.isAlone() {
		return
	}
	if b.taken == nil {
		b.taken = map[any]int{}
	}
	b.taken[e.owner] += n
	b.taken[e.owner.origin] += n
}

// ownersInCircle counts the owners of candidates.
func (s *Scheduler) ownersInCircle() (n int) {
	var last *owner
	for _, name := range s.circle {
		if o := s.endpoints[name].owner; o != last {
			n, last = n+1, o
		}
	}
	return n
}

// recentMost is how many slots a claim keeps for endpoints that are no candidates yet.
const recentMost = 16

// keepForRecent takes from the budget what is kept for endpoints without a turn, one slot each, and names the endpoints
// that may not get one: those without room, and the unproven ones with a request in flight.
func (s *Scheduler) keepForRecent(b *budget) (most int, except []string) {
	most = min(recentMost, b.free/4)
	b.free -= most
	return most, append(slices.Collect(maps.Keys(s.noUnasked)), s.fullOrigins()...)
}
