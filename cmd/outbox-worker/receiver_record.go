package main

import "sync"

// idsRemembered bounds the memory for ids: some 20 MB.
const idsRemembered = 100_000

// record counts what arrived. It remembers the newest ids up to a bound, and forgets the oldest beyond it.
type record struct {
	mu    sync.Mutex
	known map[string]*remembered
	ring  []string // ids in the order of their first arrival; next is overwritten when it is full
	next  int
	sum   summary
}

type remembered struct{ arrived, accepted int }

// summary is what the command prints at its end.
type summary struct {
	Type       string `json:"type"`       // "summary"
	Requests   int64  `json:"requests"`   // with and without an id
	Messages   int64  `json:"messages"`   // different ids
	Accepted   int64  `json:"accepted"`   // requests answered 2xx
	Refused    int64  `json:"refused"`    // requests answered otherwise
	Unanswered int64  `json:"unanswered"` // hung, or the client gave up
	Retries    int64  `json:"retries"`    // repeats of ids that were not accepted before
	Duplicates int64  `json:"duplicates"` // repeats of ids that were accepted before
	Forgotten  int64  `json:"forgotten"`  // ids beyond the bound; a repeat of one counts as a new message
	Unnamed    int64  `json:"unnamed"`    // requests without a webhook-id
	Unverified int64  `json:"unverified"` // of those refused, the ones that could not be verified
}

func newRecord(idsMax int) *record {
	return &record{known: map[string]*remembered{}, ring: make([]string, idsMax), sum: summary{Type: "summary"}}
}

// arrived counts a request and returns how often its id came, this time included.
func (r *record) arrived(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.Requests++
	if id == "" {
		r.sum.Unnamed++
		return 1
	}
	m := r.known[id]
	if m == nil {
		if old := r.ring[r.next]; old != "" {
			delete(r.known, old)
			r.sum.Forgotten++
		}
		m = &remembered{}
		r.known[id], r.ring[r.next] = m, id
		r.next = (r.next + 1) % len(r.ring)
		r.sum.Messages++
	}
	m.arrived++
	return m.arrived
}

// refused counts a request that was not verified: its id is not remembered.
func (r *record) refused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.Requests++
	r.sum.Refused++
	r.sum.Unverified++
}

// answered counts an answer, 0 for none, and reports whether the request was a duplicate: one with its id was accepted
// before.
func (r *record) answered(id string, attempt, answer int) (duplicate bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	accepted := answer/100 == 2
	switch {
	case answer == 0:
		r.sum.Unanswered++
	case accepted:
		r.sum.Accepted++
	default:
		r.sum.Refused++
	}
	m := r.known[id]
	if m == nil { // unnamed, or forgotten while it waited
		return false
	}
	duplicate = m.accepted > 0
	switch {
	case duplicate:
		r.sum.Duplicates++
	case attempt > 1:
		r.sum.Retries++
	}
	if accepted {
		m.accepted++
	}
	return duplicate
}

func (r *record) summary() summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sum
}
