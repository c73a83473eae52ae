package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// windowPlay plays random claims, answers, limits, suspensions and time. It keeps a simple record of its own: which messages
// wait in which lane, and when each window was halved and used up. After every step the scheduler must agree with the record.
type windowPlay struct {
	*rig
	rng       *rand.Rand
	lanes     map[string]*laneRecord
	order     *Order // of the claim under way
	id        int
	suspended bool
	operators map[string]int // the operator's limits, by origin
	ready     []readyRecord  // the messages that wait for the next free slot, in the order of their claim
}

// readyRecord is a message that waits for the next slot.
type readyRecord struct {
	lane    string
	payload int
	claimed time.Time
}

// laneRecord is the play's record of a lane.
type laneRecord struct {
	begun    []time.Time // when each request under way began
	waiting  []int       // payloads, in the order of their claim
	claimed  []time.Time // when each message that waits was claimed
	used     bool        // the window was used up since it was last empty
	halved   time.Time
	answered time.Time
	idle     time.Time // since when it has had no request and been no candidate; zero while it has one or is one
	grant    time.Time // no turn before this time
	rate     float64   // the rate in the last messages
	limit    int       // the operator's present limit
	wants    float64   // the operator's present rate
}

func (p *windowPlay) record(name string) *laneRecord {
	if p.lanes[name] == nil {
		p.lanes[name] = &laneRecord{}
	}
	return p.lanes[name]
}

// anyLane returns a random lane: of an origin, of a tenant there, or of a URL of either; or the only lane of its origin.
func (p *windowPlay) anyLane() string {
	if p.rng.IntN(3) == 0 {
		return fmt.Sprintf("https://alone%d.test", p.rng.IntN(20))
	}
	name := fmt.Sprintf("https://o%d.test", p.rng.IntN(4))
	if tenant := p.rng.IntN(3); tenant > 0 {
		name += fmt.Sprintf(" t%d", tenant)
	}
	if url := p.rng.IntN(4); url < 2 {
		return lane.OfURL(name, fmt.Sprint(url))
	}
	return name
}

// TestEveryWindowKeepsItsRules checks, after each step of a random play, the rules in the comments of an endpoint's fields.
func TestEveryWindowKeepsItsRules(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		most := 1 + rng.IntN(40)
		p := windowPlay{rig: slots(t, most, 1+rng.IntN(most)), rng: rng, lanes: map[string]*laneRecord{}, operators: map[string]int{}}
		p.drains()
		for range 600 {
			p.step()
			p.check()
			if p.checkLanes(); t.Failed() {
				return
			}
		}
		if p.ends(); t.Failed() {
			return
		}
	}
}

func (p *windowPlay) step() {
	p.later(time.Duration(p.rng.IntN(int(30 * time.Millisecond))))
	switch p.rng.IntN(12) {
	case 0:
		p.Woken(p.now)
	case 1:
		p.knows(p.anyLane())
	case 2:
		p.later([]time.Duration{0, aheadKept, aheadKept + 1, endpointKept, endpointKept + 2*time.Second}[p.rng.IntN(5)])
	case 3:
		name := p.anyLane() // an operator changes the limits
		p.operators[lane.Origin(name)] = []int{0, 0, 0, 2}[p.rng.IntN(4)]
		r := p.record(name)
		r.limit, r.wants = []int{0, 0, 1, 3}[p.rng.IntN(4)], []float64{0, 0, 0.7, 100}[p.rng.IntN(4)]
	case 4:
		p.suspends()
		p.overdue()
	case 5, 6, 7:
		p.claims()
	default:
		p.answers(p.anyLane())
	}
}

func (p *windowPlay) suspends() {
	switch {
	case p.suspended:
		p.suspended = false
		p.Resume()
	case p.rng.IntN(5) == 0:
		p.suspended = true
		p.gaveBackAll(p.Suspend())
	}
}

// overdue checks that the messages go back which have waited too long for the next slot, and no others.
func (p *windowPlay) overdue() {
	back := p.Overdue(p.now)
	for len(p.ready) > 0 && p.now.Sub(p.ready[0].claimed) > aheadKept {
		if len(back) == 0 || back[0].Payload != p.ready[0].payload {
			p.t.Errorf("%+v has been ready for too long and does not go back, want it to go back", p.ready[0])
			return
		}
		back, p.ready = back[1:], p.ready[1:]
	}
	if len(back) > 0 {
		p.t.Errorf("%d messages go back before their time, want none", len(back))
	}
}

// gaveBackAll checks that all that waited anywhere went back.
func (p *windowPlay) gaveBackAll(back []Message) {
	waited := len(p.ready)
	p.ready = nil
	for _, r := range p.lanes {
		waited += len(r.waiting)
		r.waiting, r.claimed = nil, nil
	}
	if len(back) != waited {
		p.t.Errorf("%d messages went back, want the %d that waited", len(back), waited)
	}
}

// claims begins a claim, or ends the one under way.
func (p *windowPlay) claims() {
	if p.order != nil {
		p.claimed()
		return
	}
	contended := p.drain.contended
	switch step := p.NextClaim(p.now); step.Do {
	case Claim:
		p.ordered(step.Order)
		if contended { // no message is claimed ahead then
			p.mustShare(step.Order)
		}
	case EndDrain:
		p.DrainEnded()
		p.drains()
	}
}

// ordered checks the order of a claim.
func (p *windowPlay) ordered(o Order) {
	if p.suspended {
		p.t.Error("a claim is ordered while suspended, want none")
	}
	p.order = &o
	seen, unproven, firsts := map[string]bool{}, 0, 0
	for _, turn := range o.Turns {
		e := p.endpoints[turn.Endpoint]
		if turn.Most < 1 || seen[turn.Endpoint] || p.record(turn.Endpoint).grant.After(p.now) {
			p.t.Errorf("%s may give %d; it has a turn already: %v; its rate gives something in %v; want 1 at least, one turn, and a rate that gives something", turn.Endpoint, turn.Most, seen[turn.Endpoint],
				p.record(turn.Endpoint).grant.Sub(p.now))
		}
		seen[turn.Endpoint] = true
		if !e.proven {
			if unproven += turn.Most; e.inFlight == 0 {
				firsts++
			}
		}
	}
	if room := max((p.config.MaxInFlight+1)/2-p.unproven, 0); unproven > room+firsts {
		p.t.Errorf("unproven endpoints may give %d, want %d and one each of %d at most", unproven, room, firsts)
	}
	if o.Most > p.free+max(p.ahead, 0) || len(o.Turns)+o.Recent > o.Most {
		p.t.Errorf("the claim is of %d messages, with %d turns and %d recent ones, for %d slots and %d ahead; want no more turns and recent ones than messages, and no more messages than slots", o.Most, len(o.Turns), o.Recent, p.free, p.ahead)
	}
	for name := range p.endpoints { // the scheduler forgets idle ones once a second
		if idle := p.record(name).idle; !idle.IsZero() && p.now.Sub(idle) > endpointKept+time.Second {
			p.t.Errorf("%s has been idle for %v, want it forgotten", name, p.now.Sub(idle))
		}
	}
}

// mustShare checks that a claim takes no more of lanes that share an origin than these may have in flight.
func (p *windowPlay) mustShare(o Order) {
	owners, origins := map[*owner]int{}, map[*origin]int{}
	for _, turn := range o.Turns {
		if e := p.endpoints[turn.Endpoint]; !e.owner.isAlone() {
			owners[e.owner] += turn.Most
			origins[e.owner.origin] += turn.Most
		}
	}
	for o, n := range owners {
		if n+o.inFlight > o.origin.share(p.config.EndpointMaxInFlight) {
			p.t.Errorf("%s may give %d and has %d in flight, want %d together at most", o.name, n, o.inFlight, o.origin.share(p.config.EndpointMaxInFlight))
		}
	}
	for at, n := range origins {
		if n+at.inFlight > at.most(p.config.EndpointMaxInFlight) {
			p.t.Errorf("%s may give %d and has %d in flight, want %d together at most", at.name, n, at.inFlight, at.most(p.config.EndpointMaxInFlight))
		}
	}
}

// claimed ends the claim under way, and checks which requests begin.
func (p *windowPlay) claimed() {
	o := *p.order
	p.order = nil
	if p.rng.IntN(10) == 0 {
		p.ClaimFailed(p.now, time.Duration(p.rng.IntN(int(time.Second))))
		return
	}
	var took []Message
	for _, turn := range o.Turns {
		took = append(took, p.messages(turn.Endpoint, p.rng.IntN(turn.Most+1))...)
	}
	if recent := p.anyLane(); o.Recent > 0 && p.mayBeRecent(o, recent) {
		took = append(took, p.messages(recent, 1)...)
	}
	took = took[:min(len(took), o.Most)]
	before := map[string]int{}
	for _, m := range took {
		if e := p.endpoints[m.Endpoint]; e != nil {
			before[m.Endpoint] = e.inFlight
		}
	}
	start, back := p.Claimed(p.now, took, nil)
	if p.suspended {
		if len(start) > 0 || len(back) != len(took) {
			p.t.Errorf("while suspended %d of %d requests begin, and %d messages go back; want none, and all", len(start), len(took), len(back))
		}
		return
	}
	p.grants(o, took)
	p.begun(took, start, before)
	if len(back) > 0 {
		p.t.Errorf("%d messages of a claim go back, want none", len(back))
	}
}

func (p *windowPlay) mayBeRecent(o Order, name string) bool {
	hasTurn := slices.ContainsFunc(o.Turns, func(t Turn) bool { return t.Endpoint == name })
	return !hasTurn && !slices.Contains(o.Except, name) && !slices.Contains(o.Except, lane.Origin(name))
}

func (p *windowPlay) messages(name string, n int) (all []Message) {
	r := p.record(name)
	for range n {
		p.id++
		all = append(all, Message{
			Endpoint: name, DueFrom: longAgo.Add(time.Duration(p.id) * time.Second), ClaimedAt: p.now, OperatorLimit: r.limit,
			OriginLimit: p.operators[lane.Origin(name)], Rate: r.wants, Payload: p.id,
		})
	}
	return all
}

// grants records until when the rates of a claim's endpoints give nothing more.
func (p *windowPlay) grants(o Order, took []Message) {
	for _, m := range took {
		if r := p.record(m.Endpoint); r.rate != m.Rate {
			r.rate, r.grant = m.Rate, time.Time{}
		}
	}
	for _, turn := range o.Turns {
		r := p.record(turn.Endpoint)
		if gave := slices.ContainsFunc(took, func(m Message) bool { return m.Endpoint == turn.Endpoint }); gave && r.rate > 0 {
			perRequest := time.Duration(float64(time.Second) / r.rate)
			r.grant = p.now.Add(min(max(perRequest, rateInterval), testPoll))
		}
	}
}

// begun records which requests begin and which messages wait, and checks that no window is exceeded.
func (p *windowPlay) begun(took, start []Message, before map[string]int) {
	begins := map[any]bool{}
	for _, m := range start {
		begins[m.Payload] = true
	}
	for _, m := range took {
		r := p.record(m.Endpoint)
		switch {
		case begins[m.Payload]:
			r.begun = append(r.begun, p.now)
		case slices.ContainsFunc(p.Scheduler.ready, func(other Message) bool { return other.Payload == m.Payload }): // see below
		default:
			r.waiting, r.claimed = append(r.waiting, m.Payload.(int)), append(r.claimed, m.ClaimedAt)
		}
	}
	for _, m := range p.Scheduler.ready[len(p.ready):] { // a claim adds to the end
		p.ready = append(p.ready, readyRecord{m.Endpoint, m.Payload.(int), m.ClaimedAt})
	}
	for _, m := range start {
		e, r := p.endpoints[m.Endpoint], p.record(m.Endpoint)
		r.used = r.used || e.inFlight >= e.limit
		bound := e.limit
		if r.limit > 0 {
			bound = min(bound, r.limit)
		}
		if e.inFlight > max(bound, 1) {
			p.t.Errorf("%s: %d requests are in flight (%d before), want %d at most", m.Endpoint, e.inFlight, before[m.Endpoint], bound)
		}
		at, most := e.owner.origin, p.config.EndpointMaxInFlight
		if limit := p.operators[at.name]; limit > 0 {
			most = min(most, limit)
		}
		shared := at.active > 1 || e.owner.active > 1 || p.operators[at.name] > 0
		if shared && e.inFlight > max(before[m.Endpoint], 1) && at.inFlight > max(most, p.busy(at)) {
			p.t.Errorf("%s: %d requests are in flight at its origin, want %d at most", m.Endpoint, at.inFlight, most)
		}
	}
}

// busy counts the lanes of an origin that have a request: each may begin its first one.
func (p *windowPlay) busy(at *origin) (n int) {
	for _, e := range p.endpoints {
		if e.owner.origin == at && e.inFlight > 0 {
			n++
		}
	}
	return n
}

// answers ends the oldest request of a lane, and checks how its window changes and what follows.
func (p *windowPlay) answers(name string) {
	r := p.record(name)
	if len(r.begun) == 0 {
		return
	}
	a := []Answer{
		quick(), quick(), quick(), slow(), {Kind: Timeout}, {Kind: Status, StatusCode: 429}, {Kind: Status, StatusCode: 503},
		{Kind: Status, StatusCode: 500}, {Kind: Status, StatusCode: 404}, {Kind: Failed}, {Kind: NotSent}, {Kind: Refused}, {Kind: Moved},
	}[p.rng.IntN(13)]
	a.StartedAt = r.begun[0]
	r.begun = r.begun[1:]
	e := p.endpoints[name]
	limit, proven := p.learnt(r, e, a)
	if r.answered = p.now; a.overloaded() && a.StartedAt.After(r.halved) {
		r.halved = p.now
	}
	kept := p.mayKeep(e, limit)
	var f following
	f.next, f.more, f.back = p.Answered(name, a, p.now)
	if e.limit != limit || e.proven != proven {
		p.t.Errorf("%s: after %+v the window is %d and proven %v, want %d and %v", name, a, e.limit, e.proven, limit, proven)
	}
	p.followed(name, r, a, kept, f)
	if e.inFlight == 0 {
		r.used = false
	}
}

// mayKeep reports whether a request that ends may pass its slot on: with the new window, its lane and the lanes of its origin
// have no more requests than allowed.
func (p *windowPlay) mayKeep(e *endpoint, limit int) bool {
	if e.operatorLimit > 0 {
		limit = min(limit, e.operatorLimit)
	}
	at, most := e.owner.origin, p.config.EndpointMaxInFlight
	if at.operatorLimit > 0 {
		most = min(most, at.operatorLimit)
	} else if at.active <= 1 && e.owner.active <= 1 { // no other lane is active
		return e.inFlight <= limit
	}
	return e.inFlight <= limit && e.owner.inFlight <= max(most/max(at.active, 1), 1) && at.inFlight <= most
}

// learnt returns how large the window must be after an answer, and whether the endpoint must be proven.
func (p *windowPlay) learnt(r *laneRecord, e *endpoint, a Answer) (limit int, proven bool) {
	limit, proven = e.limit, e.proven || !a.Unhealthy() && a.Kind != Moved
	most := p.config.EndpointMaxInFlight
	switch {
	case a.Kind == Moved:
	case a.overloaded():
		if a.StartedAt.After(r.halved) {
			limit = max(limit/2, 1)
		}
	case a.Unhealthy():
	case r.used, limit < min(initialLimit, most):
		limit = min(limit+1, most)
	}
	return limit, proven
}

// following is what an answer did with the messages that wait.
type following struct {
	next Message
	more bool
	back []Message
}

// followed checks what an answer did with the messages that wait.
func (p *windowPlay) followed(name string, r *laneRecord, a Answer, kept bool, f following) {
	if waits := len(r.waiting); waits > 0 {
		goesBack := a.backsOff() || p.now.Sub(r.claimed[0]) > aheadKept
		own := f.more && f.next.Payload == r.waiting[0]
		switch {
		case goesBack && (own || len(f.back) < waits):
			p.t.Errorf("%s: after %+v %d of %d messages that wait go back, and the next one begins: %v; want all, and false", name, a, len(f.back), waits, own)
		case !goesBack && own != kept:
			p.t.Errorf("%s: after %+v the request of a message that waits begins: %v, want %v", name, a, own, kept)
		}
	}
	for _, m := range f.back {
		p.wentBack(m, name, r, a)
	}
	switch {
	case !f.more:
		if len(p.ready) > 0 && p.free > 0 {
			p.t.Errorf("%d messages are ready, and none gets the free slot, want that one does", len(p.ready))
		}
	case len(r.waiting) > 0 && f.next.Payload == r.waiting[0]:
		r.waiting, r.claimed = r.waiting[1:], r.claimed[1:]
		r.begun = append(r.begun, p.now)
	case len(p.ready) > 0 && f.next.Payload == p.ready[0].payload:
		if p.now.Sub(p.ready[0].claimed) > aheadKept {
			p.t.Errorf("%+v begins, although it has waited for too long, want it to go back", p.ready[0])
		}
		p.mayBegin(p.ready[0].lane)
		p.ready = p.ready[1:]
		other := p.record(f.next.Endpoint)
		other.begun = append(other.begun, p.now)
		other.used = other.used || p.endpoints[f.next.Endpoint].inFlight >= p.endpoints[f.next.Endpoint].limit
	default:
		p.t.Errorf("%s: the request of %v begins, want the first of %v that wait there, or of %+v", name, f.next.Payload, r.waiting, p.ready)
	}
}

// mayBegin checks that a lane has no more requests than its window after one of them began.
func (p *windowPlay) mayBegin(name string) {
	e := p.endpoints[name]
	if e.inFlight > max(e.bound(), 1) {
		p.t.Errorf("%s: %d requests are in flight after a message that was ready began, want %d at most", name, e.inFlight, e.bound())
	}
	if !e.proven && e.inFlight > initialLimit {
		p.t.Errorf("%s has not answered yet, and has %d requests in flight, want %d at most", name, e.inFlight, initialLimit)
	}
}

// wentBack checks that a message that goes back after an answer has waited in the lane, or was ready and may not begin any more.
func (p *windowPlay) wentBack(m Message, name string, r *laneRecord, a Answer) {
	if len(r.waiting) > 0 && m.Payload == r.waiting[0] {
		r.waiting, r.claimed = r.waiting[1:], r.claimed[1:]
		return
	}
	at := slices.IndexFunc(p.ready, func(one readyRecord) bool { return one.payload == m.Payload })
	if at < 0 {
		p.t.Errorf("%s: message %v goes back, but it waits neither in the lane (%v) nor for a slot", name, m.Payload, r.waiting)
		return
	}
	one := p.ready[at]
	e := p.endpoints[one.lane]
	ownFailed := one.lane == name && a.backsOff()
	if full := e != nil && (e.inFlight >= e.bound() || !p.hasRoom(e)); !ownFailed && !full && p.now.Sub(one.claimed) <= aheadKept {
		p.t.Errorf("%+v goes back, want it to stay: its endpoint %+v has room", one, e)
	}
	p.ready = slices.Delete(p.ready, at, at+1)
}

// checkLanes compares the scheduler with the record.
func (p *windowPlay) checkLanes() {
	for name, r := range p.lanes {
		e := p.endpoints[name]
		if e == nil { // forgotten, or never known
			if len(r.begun)+len(r.waiting) > 0 || !r.answered.IsZero() && p.now.Sub(r.answered) <= endpointKept {
				p.t.Errorf("%s is forgotten %v after its last answer, with %d requests; want it kept", name, p.now.Sub(r.answered), len(r.begun))
			}
			*r = laneRecord{limit: r.limit, wants: r.wants}
			continue
		}
		if e.inFlight != len(r.begun) || len(e.waiting) != len(r.waiting) {
			p.t.Errorf("%s: %d in flight, %d wait, want %d and %d", name, e.inFlight, len(e.waiting), len(r.begun), len(r.waiting))
		}
		switch {
		case e.candidate || e.inFlight > 0:
			r.idle = time.Time{}
		case r.idle.IsZero():
			r.idle = p.now
		}
	}
	p.checkOwners()
}

// checkOwners compares the counts of owners and origins with the record.
func (p *windowPlay) checkOwners() {
	owners, origins := map[string]owner{}, map[string]origin{}
	for name, e := range p.endpoints {
		o := owners[lane.Owner(name)]
		o.inFlight, o.lanes = o.inFlight+e.inFlight, o.lanes+1
		if e.candidate || e.inFlight > 0 {
			o.active++
		}
		owners[lane.Owner(name)] = o
	}
	for name, o := range owners {
		at := origins[lane.Origin(name)]
		at.inFlight, at.owners = at.inFlight+o.inFlight, at.owners+1
		if o.active > 0 {
			at.active++
		}
		origins[lane.Origin(name)] = at
		if got := p.owners[name]; got == nil || got.inFlight != o.inFlight || got.lanes != o.lanes || got.active != o.active {
			p.t.Errorf("owner %s is %+v, want %+v", name, got, o)
		}
	}
	for name, at := range origins {
		got := p.Scheduler.origins[name]
		if got == nil || got.inFlight != at.inFlight || got.owners != at.owners || got.active != at.active {
			p.t.Errorf("origin %s is %+v, want %+v", name, got, at)
		}
		if shared := p.sharedOrigins[name] != nil; got != nil && shared != (got.active > 1 || got.operatorLimit > 0) {
			p.t.Errorf("origin %s counts as shared: %v, want %v", name, shared, !shared)
		}
	}
	if len(p.owners) != len(owners) || len(p.Scheduler.origins) != len(origins) {
		p.t.Errorf("%d owners and %d origins, want %d and %d", len(p.owners), len(p.Scheduler.origins), len(owners), len(origins))
	}
}

// ends stops the scheduler: messages that wait go back, no request begins any more, and every slot comes back.
func (p *windowPlay) ends() {
	p.gaveBackAll(p.Stop())
	if p.order != nil {
		took := p.messages(p.anyLane(), 2)
		if start, back := p.Claimed(p.now, took, nil); len(start) > 0 || len(back) != len(took) {
			p.t.Errorf("after the stop %d requests begin and %d messages go back, want none and all", len(start), len(back))
		}
	}
	for name, r := range p.lanes {
		for range r.begun {
			if _, more, back := p.Answered(name, quick(), p.now); more || len(back) > 0 {
				p.t.Errorf("%s: after the stop a request begins: %v, and %d messages go back; want false, and none", name, more, len(back))
			}
		}
	}
	if most := p.config.MaxInFlight; p.free != most || p.ahead != most || p.unproven != 0 || p.InFlight() != 0 {
		p.t.Errorf("in the end %d slots are free, %d ahead, and %d unproven; want %[4]d, %[4]d and none", p.free, p.ahead, p.unproven, most)
	}
}
