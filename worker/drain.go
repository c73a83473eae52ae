package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
)

// drainArgs are the River job: it carries no message.
type drainArgs struct{}

// Kind is the job's kind in river_job.
func (drainArgs) Kind() string { return "outbox_drain" }

// A drain hands over after drainTurn, so that its River job is seen to end, and lingers for drainLinger when nothing is
// due, so that a steady trickle needs no new job for each message.
const (
	drainTurn   = time.Minute
	drainLinger = 5 * time.Second
)

// drainer claims what is due and begins its delivery. One drain at a time runs in a process; the requests it began
// belong to the process and outlive it, so one that hangs never holds up the next claim.
type drainer struct {
	river.WorkerDefaults[drainArgs]

	claimer  *claimer
	known    *known
	slots    *slots
	flights  *flights
	outage   *door
	poll     time.Duration
	wake     chan struct{}   // holds a token when something became due
	look     chan<- struct{} // takes a token: nothing may be known yet
	rest     chan struct{}   // holds a token after a drain ended
	stopping context.Context // its end: no new claims
	running  atomic.Bool
	turn     time.Duration // of one drain

	handsOver atomic.Bool // the last drain ended because its turn was over: there is more, and it is known where

	woken   bool      // something may have become due at an endpoint that is not known
	claimed time.Time // when the last claim was begun
	stream  bool      // it was one of many messages
	crowded bool      // at the last claim more waited than there were slots: it took all it could, or could not ask each endpoint
}

// Timeout leaves the drain to its own bound.
func (d *drainer) Timeout(*river.Job[drainArgs]) time.Duration { return -1 }

// Work claims until nothing was due for a while, its turn is over, or the worker stops.
func (d *drainer) Work(ctx context.Context, _ *river.Job[drainArgs]) error {
	d.running.Store(true)
	defer func() {
		d.running.Store(false)
		token(d.rest)
	}()
	if d.known.size() == 0 {
		token(d.look)
	}
	d.woken = true
	end := time.Now().Add(d.turn)
	idle := time.Now().Add(drainLinger)
	for ctx.Err() == nil && d.stopping.Err() == nil && time.Now().Before(end) {
		took, waitFor := d.claim(ctx)
		if took > 0 || waitFor == forSlot {
			idle = time.Now().Add(drainLinger)
		} else if time.Now().After(idle) {
			return nil
		}
		d.wait(ctx, waitFor)
	}
	d.handsOver.Store(ctx.Err() == nil && d.stopping.Err() == nil)
	return nil
}

// patience says what a drain waits for after a claim.
type patience int

const (
	forNothing patience = iota // there may be more: claim again
	forSlot                    // every slot is taken, or an endpoint's share is: the next free one changes that
	forWake                    // nothing more is due
)

// claim takes what is due at the endpoints that are known, and what was written elsewhere since the last claim, as far as
// there is room, and begins its delivery.
//
// An endpoint that has the place to itself gets all of its window at once. In a crowd each gets a part of what is free, so
// that the slots are spread over many endpoints rather than filled by the first few; what is fresh waits for its turn.
func (d *drainer) claim(ctx context.Context) (took int, next patience) {
	crowd := 0
	if d.crowded {
		crowd = d.known.size()
	}
	budget := d.slots.budget(crowd)
	free := budget.free
	o := order{most: free + budget.ahead}
	if o.most == 0 {
		return 0, forSlot
	}
	if crowd == 0 {
		o.fresh, o.except = budget.fresh()
	}
	asked := d.known.ask(o.most-o.fresh, budget.room)
	if o.turns = asked.turns; len(o.turns) == 0 {
		if crowd > 0 {
			o.fresh, o.except = budget.fresh()
		}
		switch {
		case d.woken && o.fresh > 0:
		case d.woken || asked.full:
			return 0, forSlot
		default:
			return 0, forWake
		}
	}
	d.woken = false
	d.claimed = time.Now()
	messages, news, err := d.claimer.claim(ctx, o)
	if err != nil {
		d.woken = true
		_ = d.outage.wait(d.stopping, err)
		return 0, forNothing
	}
	d.outage.over()
	for _, m := range messages {
		d.flights.begin(m)
	}
	d.stream = len(messages) >= batchOfStream
	wasCrowded := d.crowded
	all := len(messages) == o.most
	d.crowded = all || asked.rest || budget.short || wasCrowded && len(messages) >= max(free/2, 1)
	rest := d.known.settle(asked, messages, all)
	d.known.add(news)
	usedUp, more := outcome(o.turns, messages, news, d.slots.hasRoom)
	for _, endpoint := range usedUp {
		d.slots.want(endpoint)
	}
	switch {
	case d.crowded, wasCrowded, rest, more:
		return len(messages), forNothing
	case asked.full, len(usedUp) > 0:
		return len(messages), forSlot
	}
	return len(messages), forWake
}

// outcome tells of a claim which endpoints gave all that they might, so that more may be due there; and whether the news
// are of endpoints that another claim would serve.
func outcome(turns []turn, messages []message, news []found, hasRoom func(endpoint string) bool) (usedUp []string, more bool) {
	gave := map[string]int{}
	for _, m := range messages {
		gave[m.endpoint]++
	}
	for _, t := range turns {
		if gave[t.endpoint] == t.most {
			usedUp = append(usedUp, t.endpoint)
		}
	}
	for _, f := range news {
		more = more || hasRoom(f.Endpoint)
	}
	return usedUp, more
}

// wait waits for what the last claim left to wait for, and in a stream until the next claim is worth a statement.
func (d *drainer) wait(ctx context.Context, next patience) {
	if next != forNothing {
		var freed chan struct{} // nil, which never delivers, when a free slot would change nothing
		if next == forSlot {
			freed = d.slots.freed
		}
		d.pauseFor(ctx, d.poll, freed, d.wake)
	}
	left := batchPace - time.Since(d.claimed)
	if !d.stream || left <= 0 {
		return
	}
	worth := batchWorth
	if d.crowded { // nothing is claimed ahead: what has ended is idle until the next claim
		worth = min(batchWorth, max(d.slots.max/2, 1))
	}
	if next == forWake {
		d.pauseFor(ctx, left, d.slots.enough(worth), nil)
		return
	}
	// A backlog is being drained: a wake tells of others, who need not wait for all of the pace.
	d.pauseFor(ctx, left, d.slots.enough(worth), d.wake)
	if left := batchPace/4 - time.Since(d.claimed); left > 0 {
		d.pauseFor(ctx, left, d.slots.enough(worth), nil)
	}
}

func (d *drainer) pauseFor(ctx context.Context, max time.Duration, freed, wake <-chan struct{}) {
	timer := time.NewTimer(max)
	defer timer.Stop()
	select {
	case <-freed:
	case <-wake:
		d.woken = true
	case <-timer.C:
	case <-d.stopping.Done():
	case <-ctx.Done():
	}
}

// token puts one into a channel that holds one, if it is empty.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
