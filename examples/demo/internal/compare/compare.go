// Package compare compares what a service committed with what a receiver got.
//
// It knows three records that were kept apart from each other: the outcomes in the service's own tables, the messages in
// the outbox, and the requests that the receiver accepted. Each acknowledgement carries a mark of its own, its attempt,
// which the service commits with the outcome and the request carries in a header. So a request from a
// transaction that was rolled back can be distinguished from one of the same run that was committed later.
package compare

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// AttemptHeader carries the mark of the acknowledgement, in the run's headers and in the request.
const AttemptHeader = "X-Demo-Attempt"

// Hash is the SHA-256 of a body.
type Hash [sha256.Size]byte

// Outcome is how one run ended, by the service's own tables.
type Outcome struct {
	RunID   string
	Attempt string // the mark of the acknowledgement that was committed
	Status  string
	Body    Hash
	At      time.Time // the service's clock just before it sent the acknowledgement
}

// Message is one row of the outbox.
type Message struct {
	ID      string
	RunID   string
	Attempt string
	Status  string
}

// Arrival is one request that the receiver accepted.
type Arrival struct {
	MessageID string // webhook-id
	RunID     string
	Attempt   string
	Status    string
	Body      Hash
	At        time.Time
}

// Verdict is what the comparison found. Each list names what is wrong; all are empty when all is well.
type Verdict struct {
	Outcomes int // committed by the service
	Messages int // in the outbox
	Arrived  int // messages that arrived at least once
	Repeats  int // accepted requests beyond the first of each message; allowed, because delivery is at least once

	Missing   []string // committed, never arrived
	Phantoms  []string // arrived, never committed
	Altered   []string // arrived with another body or status than was committed
	Unwritten []string // committed without a message
	Unfounded []string // a message of an acknowledgement that was never committed
	Doubled   []string // one outcome that was sent under more than one webhook-id

	Latencies []time.Duration // from Outcome.At to the first arrival, in the order of the outcomes
	RepeatsAt []time.Time     // when the repeats arrived, in their order
	AllAt     time.Time       // when the last message first arrived
}

// acknowledgement names one try to end a run.
type acknowledgement struct{ runID, attempt string }

func (a acknowledgement) String() string { return fmt.Sprintf("%s (attempt %s)", a.runID, a.attempt) }

// Records are what is compared.
type Records struct {
	Outcomes []Outcome
	Messages []Message
	Arrivals []Arrival // in the order of their arrival
}

// Verdict compares the records.
func (r Records) Verdict() Verdict {
	v := Verdict{Outcomes: len(r.Outcomes), Messages: len(r.Messages)}
	outcomes := make(map[acknowledgement]Outcome, len(r.Outcomes))
	for _, o := range r.Outcomes {
		outcomes[acknowledgement{o.RunID, o.Attempt}] = o
	}
	written := v.compareMessages(r.Messages, outcomes)
	first := v.compareArrivals(r.Arrivals, outcomes, written)
	for _, o := range r.Outcomes {
		key := acknowledgement{o.RunID, o.Attempt}
		if written.byAcknowledgement[key] == 0 {
			v.Unwritten = append(v.Unwritten, key.String())
		}
		if at, ok := first[key]; ok {
			v.Latencies = append(v.Latencies, at.Sub(o.At))
		} else {
			v.Missing = append(v.Missing, key.String())
		}
	}
	slices.SortFunc(v.RepeatsAt, time.Time.Compare)
	return v
}

// messages are the outbox's messages, indexed by both of their keys.
type messages struct {
	byID              map[string]acknowledgement
	byAcknowledgement map[acknowledgement]int
}

func (v *Verdict) compareMessages(list []Message, outcomes map[acknowledgement]Outcome) messages {
	m := messages{make(map[string]acknowledgement, len(list)), make(map[acknowledgement]int, len(list))}
	for _, message := range list {
		key := acknowledgement{message.RunID, message.Attempt}
		m.byID[message.ID] = key
		m.byAcknowledgement[key]++
		o, committed := outcomes[key]
		switch {
		case !committed:
			v.Unfounded = append(v.Unfounded, fmt.Sprintf("%v: message %s", key, message.ID))
		case m.byAcknowledgement[key] > 1:
			v.Doubled = append(v.Doubled, fmt.Sprintf("%v: message %s", key, message.ID))
		case message.Status != o.Status:
			v.Altered = append(v.Altered, fmt.Sprintf("%v: message %s is %s, the run %s", key, message.ID, message.Status, o.Status))
		}
	}
	return m
}

// compareArrivals returns when each outcome first arrived. A request whose webhook-id is not the one of its outcome's
// message is a phantom, too: it was made up.
func (v *Verdict) compareArrivals(list []Arrival, outcomes map[acknowledgement]Outcome, written messages) map[acknowledgement]time.Time {
	first := make(map[acknowledgement]time.Time, len(outcomes))
	seen := make(map[string]bool, len(outcomes))
	for _, a := range list {
		key := acknowledgement{a.RunID, a.Attempt}
		o, committed := outcomes[key]
		if !committed || written.byID[a.MessageID] != key {
			v.Phantoms = append(v.Phantoms, fmt.Sprintf("%v: webhook-id %s", key, a.MessageID))
			continue
		}
		if a.Body != o.Body {
			v.Altered = append(v.Altered, fmt.Sprintf("%v: body with SHA-256 %x…, committed was %x…", key, a.Body[:6], o.Body[:6]))
		} else if a.Status != o.Status {
			v.Altered = append(v.Altered, fmt.Sprintf("%v: status %s, committed was %s", key, a.Status, o.Status))
		}
		if seen[a.MessageID] {
			v.Repeats++
			v.RepeatsAt = append(v.RepeatsAt, a.At)
			continue
		}
		seen[a.MessageID] = true
		v.Arrived++
		if a.At.After(v.AllAt) {
			v.AllAt = a.At
		}
		if at, ok := first[key]; !ok || a.At.Before(at) {
			first[key] = a.At
		}
	}
	return first
}
