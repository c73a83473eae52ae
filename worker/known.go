package worker

import (
	"slices"
	"sync"
	"time"
)

// known are the endpoints that have something due, as far as this process knows, and from which due time on: looks put
// them in, claims move them on and take out those that gave nothing.
//
// What is known may be wrong in one direction only: a message may be due that it does not lead to, for a later look to
// find. A claim takes nothing that is not due.
type known struct {
	mu     sync.Mutex
	places map[string]*place
	circle []string // the endpoints, sorted: the order of turns
	cursor string   // the endpoint that was asked last
	barren int      // endpoints asked in a row that gave nothing
}

// place is what is known of one endpoint.
type place struct {
	from   time.Time // what was due before is taken
	barren int       // claims in a row to which it gave nothing
	looks  int       // that found it: one during a claim keeps it, whatever that claim saw
}

// An endpoint is forgotten that gave nothing to barrenMax claims in a row: each cost them a descent of the index.
const barrenMax = 3

// found is what a look finds: an endpoint, and since when it has had something to claim.
type found struct {
	Endpoint string
	Since    time.Time
}

func newKnown() *known { return &known{places: map[string]*place{}} }

// add puts in what a look found.
func (k *known) add(all []found) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range all {
		p := k.places[f.Endpoint]
		if p == nil {
			p = &place{from: f.Since}
			k.places[f.Endpoint] = p
			at, _ := slices.BinarySearch(k.circle, f.Endpoint)
			k.circle = slices.Insert(k.circle, at, f.Endpoint)
		}
		if f.Since.Before(p.from) { // it was committed late, or given up by who had claimed it
			p.from = f.Since
		}
		p.barren = 0
		p.looks++
	}
	if len(all) > 0 {
		k.barren = 0
	}
}

// size is how many endpoints are known.
func (k *known) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.circle)
}

// asked is what a claim is asked for.
type asked struct {
	turns []turn
	looks []int // of each turn's place, when it was asked
	full  bool  // an endpoint has no room: more may be due there
	rest  bool  // more endpoints are known than were asked
}

// ask gives the next turns, at most n, from the endpoint behind the one that was asked last. room tells how many messages
// an endpoint may give.
func (k *known) ask(n int, room func(endpoint string) int) (a asked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	start, at := slices.BinarySearch(k.circle, k.cursor)
	if at {
		start++
	}
	for i := range k.circle {
		if len(a.turns) == n {
			a.rest = true
			return a
		}
		endpoint := k.circle[(start+i)%len(k.circle)]
		most := room(endpoint)
		if most == 0 {
			a.full = true
			continue
		}
		p := k.places[endpoint]
		a.turns = append(a.turns, turn{endpoint: endpoint, from: p.from, most: most})
		a.looks = append(a.looks, p.looks)
	}
	return a
}

// settle moves on to what a claim left: cut says that it took all it might, and did not come to the last turns. It
// reports whether endpoints are known that were not asked since the last message was found.
func (k *known) settle(a asked, messages []message, cut bool) (rest bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	from := map[string]time.Time{}
	for _, m := range messages {
		if m.dueFrom.After(from[m.endpoint]) {
			from[m.endpoint] = m.dueFrom
		}
	}
	reached := len(a.turns)
	for ; cut && reached > 0 && from[a.turns[reached-1].endpoint].IsZero(); reached-- { // the last that gave was the last that was reached
	}
	for i, t := range a.turns[:reached] {
		p := k.places[t.endpoint]
		switch since, gave := from[t.endpoint]; {
		case p.looks != a.looks[i]: // found again meanwhile, perhaps from an earlier time on
		case gave:
			p.from, p.barren = since, 0
		case p.barren+1 == barrenMax:
			k.forget(t.endpoint)
		default:
			p.barren++
		}
		k.cursor = t.endpoint
	}
	if len(messages) > 0 {
		k.barren = 0
	} else {
		k.barren += reached
	}
	return (cut || a.rest) && k.barren < len(k.circle)
}

func (k *known) forget(endpoint string) {
	delete(k.places, endpoint)
	if at, ok := slices.BinarySearch(k.circle, endpoint); ok {
		k.circle = slices.Delete(k.circle, at, at+1)
	}
}
