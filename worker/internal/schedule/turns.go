package schedule

import (
	"maps"
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// Order is what a claim must do.
type Order struct {
	Most  int    // messages in all
	Turns []Turn // the endpoints to serve, in this order
	// Recent is how many endpoints without a turn may give one message each, of those that got messages since the last claim.
	// Those in Except give none.
	Recent int
	Except []string
}

// Turn is one endpoint's part of a claim: at most Most of its messages that are due since From.
type Turn struct {
	Endpoint string
	From     time.Time
	Most     int
}

// pending is an ordered claim whose result is not known yet.
type pending struct {
	turns []Turn
	found []int     // found of each turn's endpoint at the time of the order
	most  int       // of the order
	full  bool      // an endpoint has no room: more may be due there
	rest  bool      // there are more candidates than were asked
	short bool      // an endpoint could have given more, had there been more slots
	grant time.Time // when the first endpoint that was passed over because of its rate may be asked again; zero: none was
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

// behind is where the circle continues behind the owner of a lane.
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

// group are the candidates of the same owner, from one on.
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

// grants notes when an endpoint's rate allows something again.
func (p *pending) grants(at time.Time) {
	if p.grant.IsZero() || at.Before(p.grant) {
		p.grant = at
	}
}

// settle updates the candidates after a claim. all says that the claim took the most that it might, and so may not have reached
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
	for ; all && reached > 0 && from[p.turns[reached-1].Endpoint].IsZero(); reached-- { // the last turn that gave something was the last one reached
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

// settleTurn updates one candidate. from is the due time at which the claim stopped there, zero when it took nothing.
func (s *Scheduler) settleTurn(e *endpoint, from time.Time, found int) {
	switch {
	case e.found != found: // it was found again meanwhile, perhaps with an earlier time
	case !from.IsZero():
		e.from, e.misses = from, 0
	case e.misses+1 >= missesMax:
		s.dropCandidate(e)
	default:
		e.misses++
	}
}

// outcome marks the endpoints that gave all they might, so that the end of a request there is worth a claim. more says
// that another claim would serve one of the endpoints left behind.
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
		if e.inFlight == 0 { // all its requests ended meanwhile
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
	taken                 map[any]int // what was promised to owners and origins with several lanes
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
// that one each. So even if many of them hang, they leave slots to those that answer until there are as many of them as slots.
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

// window is how many requests a lane may have in flight, considering the others of its origin.
func (s *Scheduler) window(e *endpoint) int {
	if e.owner.isAlone() {
		return e.bound()
	}
	return min(e.bound(), e.owner.origin.share(s.config.EndpointMaxInFlight))
}

// promise counts what was promised to lanes that share an origin.
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

// keepForRecent takes from the budget the slots for endpoints without a turn, one each, and names the endpoints
// that may not get one: those without room, and the unproven ones with a request in flight.
func (s *Scheduler) keepForRecent(b *budget) (most int, except []string) {
	most = min(recentMost, b.free/4)
	b.free -= most
	return most, append(slices.Collect(maps.Keys(s.noUnasked)), s.fullOrigins()...)
}
