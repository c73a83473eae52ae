package schedule

import (
	"maps"
	"slices"
	"time"
)

// drain is the state of the claim loop. One drain at a time runs in a process, as a River job.
type drain struct {
	// running: from DrainBegan to DrainEnded.
	running bool
	// turnEnds is when it hands over to the next one, so that its River job is seen to end.
	turnEnds time.Time
	// idleEnds is when it ends because nothing was due for drainLinger. Messages taken and full slots move it on.
	idleEnds time.Time
	// handsOver: it ended because its turn was over. More may be due, and the candidates are known: the next drain is
	// inserted without a scan.
	handsOver bool

	// after says what the next claim waits for, and waitEnds until when at most. Set by the end of a claim.
	after    after
	waitEnds time.Time
	// claimedAt is when the last claim began.
	claimedAt time.Time
	// stream: the last claim took so many messages that the next one waits until it is worth a statement, and until
	// paceEnds at most.
	stream   bool
	paceEnds time.Time
	// paceForAll: nothing more is due as far as is known, so a wake does not end the pace early.
	paceForAll bool
	// contended: at the last claim more endpoints waited than there were slots. Then each gets an equal part.
	contended bool
	// pending is what the claim under way was asked for.
	pending pending

	// woken: something became due since the last claim began to wait. A wait for Wake consumes it.
	woken bool
	// recent: the next claim is made even without candidates, for what was written since the last one.
	recent bool
	// slotFreed: a request ended whose slot the last claim wanted.
	slotFreed bool
	// answered counts requests that ended since the last claim was ordered; enough of them are worth the next one.
	answered, enough int
	// waitsFor names the events that put a token into ClaimLoop.
	waitsFor Events
}

// after says what a drain waits for after a claim.
type after int

const (
	afterNothing after = iota // there may be more: claim again
	afterSlot                 // every slot is taken, or an endpoint's window is: the next free slot changes that
	afterWake                 // nothing more is due as far as is known
	afterPause                // the claim failed
)

// events are what ends the wait early.
func (a after) events() Events {
	switch a {
	case afterSlot:
		return SlotFreed | Wake
	case afterWake:
		return Wake
	}
	return 0
}

// A drain ends when nothing was due for drainLinger: a steady trickle needs no new River job for each message.
const drainLinger = 5 * time.Second

// Claims of a stream are batchPace apart unless BatchWorth messages are there for one: each statement has a price of its
// own, which a larger batch shares among more messages. A claim that took BatchOfStream is part of a stream.
const (
	BatchPace     = 10 * time.Millisecond
	BatchWorth    = 256
	BatchOfStream = 8
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
	free  int       // slots that were free
	full  bool      // an endpoint has no room: more may be due there
	rest  bool      // there are more candidates than were asked
	short bool      // an endpoint could have given more, had there been more slots
	grant time.Time // when the first endpoint that was passed over for its rate may be asked again; zero: none was
}

// DrainBegan says that a drain runs now.
func (s *Scheduler) DrainBegan(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.drain
	d.running, d.handsOver, d.recent = true, false, true
	d.turnEnds, d.idleEnds = now.Add(s.config.DrainTurn), now.Add(drainLinger)
	d.after = afterNothing
	if len(s.circle) == 0 {
		s.scans.owed = true
		token(s.ScanLoop)
	}
}

// DrainEnded says that no drain runs any more.
func (s *Scheduler) DrainEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain.running, s.drain.waitsFor = false, 0
	if s.drain.handsOver {
		s.scans.insert = true
	} else {
		s.scans.owed = true
	}
	token(s.ScanLoop)
}

// Draining reports whether a drain runs in this process.
func (s *Scheduler) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain.running
}

// NextClaim returns what the claim loop does next.
func (s *Scheduler) NextClaim(now time.Time) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.drain
	d.waitsFor = 0
	if !now.Before(d.turnEnds) {
		d.handsOver = true
		return Step{Do: EndDrain}
	}
	if d.after == afterWake && !d.woken && !now.Before(d.idleEnds) {
		return Step{Do: EndDrain}
	}
	if s.suspended {
		return s.waitUntil(earliest(now.Add(s.config.PollInterval), d.turnEnds), 0)
	}
	if step, waits := s.pause(now); waits {
		return step
	}
	order, next := s.order(now)
	if order.Most > 0 {
		return Step{Do: Claim, Order: order}
	}
	if next == afterSlot {
		d.idleEnds = now.Add(drainLinger)
	}
	s.wait(next, now)
	step, _ := s.pause(now)
	return step
}

// wait sets what the next claim waits for.
func (s *Scheduler) wait(next after, now time.Time) {
	d := &s.drain
	d.after, d.waitEnds = next, now.Add(s.config.PollInterval)
	if grant := d.pending.grant; !grant.IsZero() && grant.Before(d.waitEnds) {
		d.waitEnds = grant
	}
	d.paceForAll = next == afterWake
}

// pause says how to wait before the next claim, if it has to: first for what the last claim left to wait for, then, in a
// stream, until the next claim is worth a statement.
func (s *Scheduler) pause(now time.Time) (step Step, waits bool) {
	d := &s.drain
	events := d.after.events()
	switch {
	case d.after == afterNothing:
	case d.woken && events&Wake != 0:
		d.woken, d.recent = false, true
	case d.slotFreed && events&SlotFreed != 0, !now.Before(d.waitEnds):
	case d.after == afterWake:
		return s.waitUntil(earliest(d.waitEnds, d.idleEnds, d.turnEnds), events), true
	default:
		return s.waitUntil(earliest(d.waitEnds, d.turnEnds), events), true
	}
	d.after = afterNothing
	d.enough = BatchWorth
	if d.contended { // nothing is claimed ahead: what has ended is idle until the next claim
		d.enough = min(BatchWorth, max(s.config.MaxInFlight/2, 1))
	}
	if !d.stream || !now.Before(d.paceEnds) || d.answered >= d.enough {
		return Step{}, false
	}
	events = EnoughAnswers
	if !d.paceForAll { // a backlog is being drained: a wake tells of others, who need not wait for all of the pace
		if d.woken {
			d.woken, d.recent, d.paceForAll = false, true, true
			d.paceEnds = d.claimedAt.Add(BatchPace / 4)
			return s.pause(now)
		}
		events |= Wake
	}
	return s.waitUntil(d.paceEnds, events), true
}

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

func (s *Scheduler) waitUntil(t time.Time, events Events) Step {
	s.drain.waitsFor = events
	return Step{Do: WaitFor, Until: t, For: events}
}

// order decides what the next claim is asked for. Without an order, next says what to wait for.
//
// An endpoint that has the slots to itself gets its whole window at once. Where endpoints contend for slots, each gets an
// equal part of what is free, and nothing is claimed ahead.
func (s *Scheduler) order(now time.Time) (o Order, next after) {
	d := &s.drain
	s.sweep(now)
	d.answered, d.slotFreed = 0, false
	b := s.budget()
	p := pending{most: b.free + b.ahead, free: b.free}
	d.pending = p
	if p.most == 0 {
		return Order{}, afterSlot
	}
	if !d.contended {
		o.Recent, o.Except = s.keepForRecent(&b)
	}
	s.ask(&p, p.most-o.Recent, &b, now)
	p.short = b.short
	d.pending = p
	if o.Turns = p.turns; len(o.Turns) == 0 {
		if d.contended {
			o.Recent, o.Except = s.keepForRecent(&b)
		}
		switch {
		case d.recent && o.Recent > 0:
		case p.full, d.recent && s.free < s.config.MaxInFlight:
			return Order{}, afterSlot
		default:
			return Order{}, afterWake
		}
	}
	o.Most = p.most
	d.recent, d.claimedAt, d.paceEnds = false, now, now.Add(BatchPace)
	return o, afterNothing
}

// ask fills the next turns, at most n, from the endpoint behind the one that was asked last.
func (s *Scheduler) ask(p *pending, n int, b *budget, now time.Time) {
	start, at := slices.BinarySearch(s.circle, s.cursor)
	if at {
		start++
	}
	for i := range s.circle {
		if len(p.turns) == n {
			p.rest = true
			return
		}
		e := s.endpoints[s.circle[(start+i)%len(s.circle)]]
		if e.grantAt.After(now) {
			p.grants(e.grantAt)
			continue
		}
		most := s.room(b, e)
		if most == 0 {
			p.full = true
			continue
		}
		p.turns = append(p.turns, Turn{Endpoint: e.name, From: e.from, Most: most})
		p.found = append(p.found, e.found)
	}
}

// grants notes that an endpoint's rate gives something at a time.
func (p *pending) grants(at time.Time) {
	if p.grant.IsZero() || at.Before(p.grant) {
		p.grant = at
	}
}

// Claimed takes the result of a claim: the messages, and the endpoints at which it left new messages behind. It returns
// the messages whose requests begin now; the others wait for a slot of their endpoint. Those in back are to be released.
func (s *Scheduler) Claimed(now time.Time, messages []Message, left []Candidate) (start, back []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.drain
	if s.stopped {
		return nil, messages
	}
	if s.suspended {
		d.recent, d.after = true, afterNothing
		return nil, messages
	}
	start = s.beginAll(messages)
	all := len(messages) == d.pending.most
	wasContended := d.contended
	d.stream = len(messages) >= BatchOfStream
	d.contended = all || d.pending.rest || d.pending.short || wasContended && len(messages) >= max(d.pending.free/2, 1)
	rest := s.settle(messages, all, now)
	s.addCandidates(left)
	usedUp, more := s.outcome(messages, left)
	next := afterWake
	switch {
	case d.contended, wasContended, rest, more:
		next = afterNothing
	case d.pending.full, usedUp:
		next = afterSlot
	}
	if len(messages) > 0 || next == afterSlot {
		d.idleEnds = now.Add(drainLinger)
	}
	if len(messages) > 0 {
		s.progress.madeAt = now
	}
	s.wait(next, now)
	return start, nil
}

// beginAll gives each endpoint without a request its first one before any gets another: a window that grew during the claim
// could take the slot that was meant for it, and nothing may wait at an endpoint without a request.
func (s *Scheduler) beginAll(messages []Message) (start []Message) {
	var others []Message
	for _, m := range messages {
		if e := s.endpoints[m.Endpoint]; e != nil && e.inFlight > 0 {
			others = append(others, m)
		} else if s.begin(m) {
			start = append(start, m)
		}
	}
	for _, m := range others {
		if s.begin(m) {
			start = append(start, m)
		}
	}
	return start
}

// ClaimFailed says that a claim failed; the next one is made after pause.
func (s *Scheduler) ClaimFailed(now time.Time, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.drain
	d.recent, d.after, d.waitEnds = true, afterPause, now.Add(pause)
}

// settle moves the candidates on to what a claim took. all says that the claim took all it might, and so did not come to
// the last turns. It reports whether there are candidates that were not asked since a claim last took something.
func (s *Scheduler) settle(messages []Message, all bool, now time.Time) (rest bool) {
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
		s.cursor = t.Endpoint
	}
	if len(messages) > 0 {
		s.misses = 0
	} else {
		s.misses += reached
	}
	return (all || p.rest) && s.misses < len(s.circle)
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
		more = more || e.room() > 0 && !e.grantAt.After(s.drain.claimedAt)
	}
	return usedUp, more
}

// budget is what one claim may take. Only claims begin requests, so what is free stays free until the claim is made.
type budget struct {
	free, ahead, unproven int
	part                  int  // of what is free, for each endpoint
	short                 bool // an endpoint could have given more, had there been more slots
}

func (s *Scheduler) budget() budget {
	b := budget{free: s.free, ahead: max(s.ahead, 0), unproven: (s.config.MaxInFlight+1)/2 - s.unproven, part: s.free}
	if n := len(s.circle); s.drain.contended && n > 0 {
		b.ahead, b.part = 0, max(s.free/n, 1)
	}
	s.wantsSlot = b.free == 0
	return b
}

// room takes from the budget what an endpoint may give. The unproven endpoints together get half of all slots, and beyond
// that one each: where many hang at once, it takes as many of them as there are slots left to keep out those that answer.
func (s *Scheduler) room(b *budget, e *endpoint) int {
	now := e.room()
	e.wantsSlot = now == 0
	now = min(now, b.part)
	b.short = b.short || now > b.free
	now = min(now, b.free)
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
	b.free -= now
	s.wantsSlot = s.wantsSlot || b.short
	if e.inFlight+now == 0 {
		return now
	}
	ahead := min(max(e.answersAhead()-len(e.waiting), 0), b.ahead)
	b.ahead -= ahead
	return now + ahead
}

// recentMost is how many slots a claim keeps for endpoints that are no candidates yet.
const recentMost = 16

// keepForRecent takes from the budget what is kept for endpoints without a turn, one slot each, and names the endpoints
// that may not get one: those without room, and the unproven ones with a request in flight.
func (s *Scheduler) keepForRecent(b *budget) (most int, except []string) {
	most = min(recentMost, b.free/4)
	b.free -= most
	return most, slices.Collect(maps.Keys(s.noUnasked))
}
