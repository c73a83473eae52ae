package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// check compares the scheduler's counts with its endpoints: these are the invariants of the package's documentation.
func (r *rig) check() {
	r.t.Helper()
	inFlight, waiting, unproven := 0, len(r.ready), 0
	ready := map[string]int{}
	for _, m := range r.ready {
		ready[m.Endpoint]++
	}
	var circle []string
	for name, e := range r.endpoints {
		inFlight += e.inFlight
		waiting += len(e.waiting)
		if !e.proven {
			unproven += e.inFlight
		}
		if e.candidate {
			circle = append(circle, name)
		}
		if e.limit < 1 || e.limit > r.config.EndpointMaxInFlight || e.inFlight < 0 {
			r.t.Errorf("%s: limit %d, in flight %d; want a limit from 1 to the configured one, and no negative count", name, e.limit, e.inFlight)
		}
		if len(e.waiting) > 0 && e.inFlight == 0 {
			r.t.Errorf("%s: %d messages wait without a request in flight, want none", name, len(e.waiting))
		}
		if e.ready != ready[name] {
			r.t.Errorf("%s: %d messages are ready, want %d", name, e.ready, ready[name])
		}
		if r.noUnasked[name] != e.noUnaskedMessage() {
			r.t.Errorf("%s: noUnasked is %v, want the opposite", name, r.noUnasked[name])
		}
	}
	r.checkShared()
	if len(r.ready) > 0 && r.free > 0 {
		r.t.Errorf("%d messages are ready, and %d slots are free, want none of either", len(r.ready), r.free)
	}
	slices.Sort(circle)
	if most := r.config.MaxInFlight; r.free+inFlight != most || r.free < 0 || r.ahead+waiting != most || r.unproven != unproven {
		r.t.Errorf("free %d + in flight %d, ahead %d + waiting or ready %d, want %d each; unproven %d, want %d",
			r.free, inFlight, r.ahead, waiting, most, r.unproven, unproven)
	}
	if !slices.Equal(circle, r.circle) {
		r.t.Errorf("the circle is %v, want the candidates %v", r.circle, circle)
	}
}

// checkShared compares the counts of owners and origins with their lanes.
func (r *rig) checkShared() {
	r.t.Helper()
	owners, origins := map[string]owner{}, map[string]origin{}
	for name, e := range r.endpoints {
		key, at := lane.Owner(name), lane.Origin(name)
		o, of := owners[key], origins[at]
		o.lanes, o.inFlight, of.inFlight = o.lanes+1, o.inFlight+e.inFlight, of.inFlight+e.inFlight
		if e.candidate || e.inFlight > 0 {
			if o.active++; o.active == 1 {
				of.active++
			}
		}
		if o.lanes == 1 {
			of.owners++
		}
		owners[key], origins[at] = o, of
	}
	for key, want := range owners {
		if got := r.owners[key]; got == nil || got.lanes != want.lanes || got.inFlight != want.inFlight || got.active != want.active {
			r.t.Errorf("owner %q is %+v, want %+v", key, got, want)
		}
	}
	for key, want := range origins {
		got := r.origins[key]
		if got == nil || got.owners != want.owners || got.inFlight != want.inFlight || got.active != want.active {
			r.t.Errorf("origin %q is %+v, want %+v", key, got, want)
			continue
		}
		if shared := got.active > 1 || got.operatorLimit > 0; (r.sharedOrigins[key] == got) != shared {
			r.t.Errorf("origin %q counts as shared: %v, want %v", key, !shared, shared)
		}
	}
	for key, shared := range r.sharedOrigins {
		if r.origins[key] != shared {
			r.t.Errorf("origin %q counts as shared, want it forgotten", key)
		}
	}
	if len(r.owners) != len(owners) || len(r.origins) != len(origins) || len(r.sharedOrigins) > len(origins) {
		r.t.Errorf("%d owners, %d origins, %d of them shared; want %d owners and %d origins", len(r.owners), len(r.origins), len(r.sharedOrigins), len(owners), len(origins))
	}
}

// invariantLanes are the lanes of origins, of tenants, and of URLs that were set aside, and of origins with one lane.
var invariantLanes = func() (all []string) {
	for _, owner := range []string{"o0", "o0 t0", "o0 t1", "o1", "o2 t0"} {
		all = append(all, owner, lane.OfURL(owner, "a"), lane.OfURL(owner, "b"))
	}
	for i := range 30 {
		all = append(all, fmt.Sprint("alone", i))
	}
	return all
}()

// TestTheInvariantsHoldWhateverHappens plays random claims, answers of every kind, scans, wakes, limits and time.
func TestTheInvariantsHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 40 {
		most := 1 + rng.IntN(40)
		r := slots(t, most, 1+rng.IntN(most))
		r.drains()
		p := invariantPlay{rig: r, rng: rng, inFlight: map[string][]time.Time{}}
		for range 500 {
			p.step()
			if r.check(); t.Failed() {
				return
			}
		}
	}
}

type invariantPlay struct {
	*rig
	rng      *rand.Rand
	inFlight map[string][]time.Time // when each request began
	order    *Order                 // of the claim under way
}

func (p *invariantPlay) step() {
	p.later(time.Duration(p.rng.IntN(int(50 * time.Millisecond))))
	name := invariantLanes[p.rng.IntN(len(invariantLanes))]
	switch p.rng.IntN(8) {
	case 0:
		p.Woken(p.now)
	case 1:
		p.knows(name)
	case 2:
		p.later(time.Duration(p.rng.IntN(3)) * endpointKept / 2)
		p.Overdue(p.now)
	case 3, 4:
		p.claims(name)
	default:
		p.answersOne(name)
	}
}

// claims begins a claim, or ends the one that is under way, with as many messages as it asked for at most.
func (p *invariantPlay) claims(name string) {
	if p.order == nil {
		switch step := p.NextClaim(p.now); step.Do {
		case Claim:
			p.order = &step.Order
		case EndDrain:
			p.DrainEnded()
			p.drains()
		}
		return
	}
	o := *p.order
	p.order = nil
	if p.rng.IntN(10) == 0 {
		p.ClaimFailed(p.now, time.Duration(p.rng.IntN(int(time.Second))))
		return
	}
	var took []Message
	for _, t := range o.Turns {
		m := p.gave(t.Endpoint, p.rng.IntN(t.Most+1), p.rng.IntN(100))
		for i := range m {
			m[i].OperatorLimit = []int{0, 0, 0, 1, 3}[p.rng.IntN(5)]
			m[i].OriginLimit = []int{0, 0, 0, 2, 5}[p.rng.IntN(5)]
			m[i].Rate = []float64{0, 0, 0, 0.5, 100}[p.rng.IntN(5)]
		}
		took = append(took, m...)
	}
	for range p.rng.IntN(o.Recent + 1) {
		if hasTurn := slices.ContainsFunc(o.Turns, func(t Turn) bool { return t.Endpoint == name }); !hasTurn && !slices.Contains(o.Except, name) {
			took = append(took, p.gave(name, 1, 5)...)
			break
		}
	}
	took = took[:min(len(took), o.Most)]
	start, _ := p.Claimed(p.now, took, nil)
	for _, m := range start {
		p.inFlight[m.Endpoint] = append(p.inFlight[m.Endpoint], p.now)
	}
}

func (p *invariantPlay) answersOne(name string) {
	if len(p.inFlight[name]) == 0 {
		return
	}
	a := []Answer{
		quick(), quick(), slow(), {Kind: Moved}, {Kind: Timeout}, {Kind: Status, StatusCode: 429}, {Kind: Status, StatusCode: 503},
		{Kind: Status, StatusCode: 500}, {Kind: Status, StatusCode: 404}, {Kind: Failed}, {Kind: NotSent}, {Kind: Refused},
	}[p.rng.IntN(12)]
	a.StartedAt = p.inFlight[name][0]
	p.inFlight[name] = p.inFlight[name][1:]
	if next, more, _ := p.Answered(name, a, p.now); more {
		p.inFlight[next.Endpoint] = append(p.inFlight[next.Endpoint], p.now)
	}
}
