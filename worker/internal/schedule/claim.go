package schedule

import (
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
	// pending is the order of the claim that is being made.
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

// Claims of a stream are batchPace apart unless BatchWorth messages are there for one: each statement has a fixed cost,
// which a larger batch divides among more messages. A claim that took BatchOfStream is part of a stream.
const (
	BatchPace     = 10 * time.Millisecond
	BatchWorth    = 256
	BatchOfStream = 8
)

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

// pause says how to wait before the next claim, if it has to: first as the end of the last claim says (after), then, in a
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
	if d.contended { // nothing is claimed ahead: a freed slot is idle until the next claim
		d.enough = min(BatchWorth, max(s.config.MaxInFlight/2, 1))
	}
	if !d.stream || !now.Before(d.paceEnds) || d.answered >= d.enough {
		return Step{}, false
	}
	events = EnoughAnswers
	if !d.paceForAll { // a backlog is being drained: a wake means other messages, which need not wait for the whole pace
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

// order decides what the next claim must do. Without an order, next says what to wait for.
//
// An endpoint that has the slots to itself gets its whole window at once. Where endpoints contend for slots, each gets an
// equal part of what is free; what is claimed ahead waits for whichever slot is free next.
func (s *Scheduler) order(now time.Time) (o Order, next after) {
	d := &s.drain
	s.sweep(now)
	d.answered, d.slotFreed = 0, false
	b := s.budget()
	p := pending{most: b.free + b.ready + b.ahead}
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
	d.contended = all || d.pending.rest || d.pending.short || wasContended && len(messages) >= max(d.pending.most/2, 1)
	s.settle(messages, all, now)
	s.addCandidates(left)
	usedUp, more := s.outcome(messages, left)
	next := afterWake
	switch {
	case d.contended, wasContended, more:
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
// could take the slot that was meant for it, and nothing may wait at an endpoint without a request. The first are those that
// may not be ready before there is a slot.
func (s *Scheduler) beginAll(messages []Message) (start []Message) {
	for order := range 3 {
		var others []Message
		for _, m := range messages {
			if s.beginsAs(m.Endpoint) > order {
				others = append(others, m)
			} else if s.begin(m) {
				start = append(start, m)
			}
		}
		messages = others
	}
	return start
}

// beginsAs says when the messages of an endpoint begin, among those of a claim: 0 for the first, 2 for the last.
func (s *Scheduler) beginsAs(name string) int {
	switch e := s.endpoints[name]; {
	case e == nil || e.inFlight == 0 && !e.maybeReady():
		return 0
	case e.inFlight == 0:
		return 1
	}
	return 2
}

// ClaimFailed says that a claim failed; the next one is made after pause.
func (s *Scheduler) ClaimFailed(now time.Time, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.drain
	d.recent, d.after, d.waitEnds = true, afterPause, now.Add(pause)
}
