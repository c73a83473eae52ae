// Package event defines an event: a report of a worker to an operator, in the form of a message of the outbox itself.
//
// What happens is noted in the table event, in the transaction in which it happens: an insert, which waits for nobody. A
// worker that has a URL for events takes the notes, adds them up by endpoint and kind, and writes a message for each sum. An endpoint
// gets at most one of a kind in five minutes, so a death of 100 000 messages is two messages.
//
// The message is in a lane of its own, which no message of a service can enter. Its row does not hold the URL, which may
// contain a token, and may change before the message is sent. The worker that sends it fills in the URL.
package event

import (
	"encoding/json"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// Kind is what happened.
type Kind string

// The kinds.
const (
	MessageDead      Kind = "message.dead"       // given up, for any reason but poison; also by an operator
	MessageSetAside  Kind = "message.set_aside"  // given up because the database refuses its row: poison
	BreakerOpened    Kind = "breaker.opened"     // failures in a row: nothing is sent there for a while
	BreakerClosed    Kind = "breaker.closed"     // the endpoint answers again
	EndpointPaused   Kind = "endpoint.paused"    // by an operator
	EndpointResumed  Kind = "endpoint.resumed"   // by an operator
	EndpointSetAside Kind = "endpoint.set_aside" // a URL is gone, or the database refuses the row of an endpoint
	WorkerMissing    Kind = "worker.missing"     // a worker died, or its host vanished
)

// Kinds are all kinds.
var Kinds = []Kind{MessageDead, MessageSetAside, BreakerOpened, BreakerClosed, EndpointPaused, EndpointResumed, EndpointSetAside, WorkerMissing}

const (
	// Lane is the lane of events. It is not an origin, so no URL leads to it.
	Lane = "event"

	// URL stands in the row of an event. It is a valid URL, so that a worker from before version 9 reads the row as far as the mark. It
	// leads nowhere (RFC 2606).
	URL = "https://events.invalid/"

	// Mark is the name of a key set and of a header set that nobody can use. A worker from before version 9 finds neither, so
	// an event waits there, unsent and uncounted, for a worker that knows events.
	Mark = "_event"

	// RunID stands in the row of an event, before its id: an event has no run, and must not be taken for one of a service's runs.
	RunID = "outbox event "
)

// Options are the options in an event's row.
const Options = `{"signing_key":"` + Mark + `","secret_headers":"` + Mark + `"}`

// IsLane reports that a lane holds events.
func IsLane(name string) bool { return lane.Origin(name) == Lane }

// Note is what happened, as the table event holds it.
type Note struct {
	At        time.Time
	Kind      Kind
	Lane      string // for a missing worker: its name
	N         int64
	Reason    string
	MessageID string // of one of the messages; "" for none
}

// Sum is what notes of one endpoint and kind add up to. It stands in event_told.detail while it waits.
type Sum struct {
	N         int64            `json:"n"`
	Since     time.Time        `json:"since"`
	Until     time.Time        `json:"until"`
	Reasons   map[string]int64 `json:"reasons,omitempty"`
	Scope     string           `json:"scope,omitempty"` // the smallest that includes all of them; see the constants
	Tenant    string           `json:"tenant,omitempty"`
	MessageID string           `json:"message_id,omitempty"`
}

// The scopes.
const (
	ScopeEndpoint = "endpoint"
	ScopeTenant   = "tenant" // the tenant at the endpoint
	ScopeURL      = "url"    // one URL, or several, that were set aside
)

const (
	reasonsMost = 16  // of a sum, by name; the others are counted together
	reasonMost  = 200 // bytes
)

// OtherReasons stands for the reasons beyond reasonsMost.
const OtherReasons = "other"

// Add adds a note.
func (s *Sum) Add(n Note) {
	scope, tenant := scopeOf(n)
	if s.N == 0 {
		s.Since, s.Until, s.Scope, s.Tenant = n.At, n.At, scope, tenant
	}
	if s.Scope != scope || s.Tenant != tenant {
		if s.Tenant != tenant {
			s.Tenant = ""
		}
		s.Scope = wider(s.Scope, scope, s.Tenant)
	}
	if n.At.Before(s.Since) {
		s.Since = n.At
	}
	if n.At.After(s.Until) {
		s.Until = n.At
	}
	s.N += n.N
	if n.MessageID != "" {
		s.MessageID = n.MessageID
	}
	s.addReason(n.Reason, n.N)
}

func (s *Sum) addReason(reason string, n int64) {
	if reason == "" {
		return
	}
	if len(reason) > reasonMost {
		reason = string([]rune(reason[:reasonMost])[:reasonMost/4]) // whole characters, of four bytes at most
	}
	if s.Reasons == nil {
		s.Reasons = map[string]int64{}
	}
	if _, known := s.Reasons[reason]; !known && len(s.Reasons) >= reasonsMost {
		reason = OtherReasons
	}
	s.Reasons[reason] += n
}

func scopeOf(n Note) (scope, tenant string) {
	if n.Kind == WorkerMissing {
		return "", ""
	}
	tenant = lane.Tenant(n.Lane)
	switch {
	case lane.IsURL(n.Lane):
		return ScopeURL, tenant
	case tenant != "":
		return ScopeTenant, tenant
	}
	return ScopeEndpoint, ""
}

// wider is the scope that includes both.
func wider(a, b, tenant string) string {
	switch {
	case a == b && (a != ScopeTenant || tenant != ""):
		return a
	case tenant != "":
		return ScopeTenant
	}
	return ScopeEndpoint
}

// Endpoint is the key by which notes are added up: the origin, or a missing worker's name.
func (n Note) Endpoint() string {
	if n.Kind == WorkerMissing {
		return n.Lane
	}
	return lane.Origin(n.Lane)
}

// body is what a receiver gets: the JSON that Standard Webhooks recommends. docs/events.md explains it.
type body struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      data   `json:"data"`
}

type data struct {
	Outbox    string           `json:"outbox"`
	Endpoint  string           `json:"endpoint,omitempty"`
	Worker    string           `json:"worker,omitempty"`
	Scope     string           `json:"scope,omitempty"`
	Tenant    string           `json:"tenant,omitempty"`
	Count     int64            `json:"count"`
	Since     string           `json:"since"`
	Until     string           `json:"until"`
	Reasons   map[string]int64 `json:"reasons,omitempty"`
	MessageID string           `json:"message_id,omitempty"`
}

// Body is the JSON of an event. endpoint is "" for an event that sums up many endpoints.
func Body(schema, endpoint string, kind Kind, s Sum, at time.Time) []byte {
	d := data{
		Outbox: schema, Scope: s.Scope, Tenant: s.Tenant, Count: s.N, Since: utc(s.Since), Until: utc(s.Until), Reasons: s.Reasons, MessageID: s.MessageID,
	}
	if kind == WorkerMissing {
		d.Worker = endpoint
	} else {
		d.Endpoint = endpoint
	}
	if endpoint == "" {
		d.Scope = ""
	}
	text, err := json.Marshal(body{Type: "outbox." + string(kind), Timestamp: utc(at), Data: d})
	if err != nil {
		panic(err) // strings and numbers
	}
	return text
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
