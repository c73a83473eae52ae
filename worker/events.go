package worker

import (
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// EventKind is what happened.
type EventKind string

// The kinds of events. EventEndpointPaused and EventEndpointResumed are caused by an operator: only Config.EventsURL
// gets them, not OnEvent.
const (
	EventMessageDead      = EventKind(event.MessageDead)      // a message is given up, for whatever reason but poison
	EventMessageSetAside  = EventKind(event.MessageSetAside)  // the database refuses the message's row: it is dead (poison), or left out for a while
	EventBreakerOpened    = EventKind(event.BreakerOpened)    // failures in a row: nothing is sent there for a while
	EventBreakerClosed    = EventKind(event.BreakerClosed)    // the endpoint answers again
	EventEndpointPaused   = EventKind(event.EndpointPaused)   // by an operator
	EventEndpointResumed  = EventKind(event.EndpointResumed)  // by an operator
	EventEndpointSetAside = EventKind(event.EndpointSetAside) // a URL is gone (410), or the database refuses an endpoint's row
	EventWorkerMissing    = EventKind(event.WorkerMissing)    // a worker died, or its host vanished
)

// Event is something that this worker did or noticed, and that is recorded.
type Event struct {
	Kind     EventKind
	At       time.Time // when it was recorded, by this process's clock
	Endpoint string    // origin of the URL; "" for a missing worker, and for messages reported together
	Tenant   string    // "" for none
	Scope    string    // endpoint, tenant or url: what it is about. For a message's death, where the message waited
	Message  outbox.ID // zero when it concerns none, or several
	Worker   string    // the name of the missing worker
	Reason   string
	Count    int // 1, or how many messages are reported together

	// OpenUntil is when a circuit breaker lets a message through again; zero for other kinds.
	OpenUntil time.Time
}

// Attempt is one request for one message. It is reported before its result is recorded.
type Attempt struct {
	Message    outbox.ID
	RunID      string
	Endpoint   string // origin of the URL
	Tenant     string // "" for none
	URL        string // may hold a secret in its path
	Number     int    // over the message's life, from 1
	StartedAt  time.Time
	Duration   time.Duration
	Class      string        // delivered, or the kind of fault, as attempt.class in the database
	StatusCode int           // 0 when no answer came
	Err        string        // what went wrong, without the URL; "" when delivered
	Action     string        // what follows: delivered, retry or dead
	Reason     string        // why the message died: refused, gone or exhausted
	RetryIn    time.Duration // for a retry, until the next attempt
}

// eventAt is an event about a lane.
func eventAt(kind event.Kind, name, reason string) Event {
	e := Event{Kind: EventKind(kind), At: time.Now(), Endpoint: lane.Origin(name), Tenant: lane.Tenant(name), Scope: event.ScopeEndpoint, Reason: reason, Count: 1}
	switch {
	case lane.IsURL(name):
		e.Scope = event.ScopeURL
	case e.Tenant != "":
		e.Scope = event.ScopeTenant
	}
	return e
}

// deathOf is the event of a result that ended a message.
func deathOf(x postgres.Result) Event {
	kind := event.MessageDead
	if x.Reason == postgres.ReasonPoison {
		kind = event.MessageSetAside
	}
	e := eventAt(kind, x.Endpoint, x.Reason)
	e.Message = x.ID
	return e
}

// changeOf is the event of a change of a lane; ok is false for a change without an event.
func changeOf(x postgres.EndpointChange) (e Event, ok bool) {
	kind := event.EndpointSetAside
	switch x.What {
	case postgres.EndpointOpened:
		kind = event.BreakerOpened
	case postgres.EndpointClosed:
		if !x.WasOpen { // it only failed a few times
			return e, false
		}
		kind = event.BreakerClosed
	}
	e = eventAt(kind, x.Endpoint, x.Reason)
	if kind == event.BreakerOpened && x.OpenUntil != nil {
		e.OpenUntil = *x.OpenUntil
	}
	return e, true
}

// asideOf returns the events for what a claim set aside. Rows whose message is gone give no events.
func asideOf(a postgres.Aside) (all []Event) {
	switch {
	case a.What == postgres.AsideRemoved:
	case len(a.IDs) == 0:
		all = append(all, eventAt(event.EndpointSetAside, a.Endpoint, a.Reason))
	case a.What == postgres.AsideExpired:
		all = append(all, Event{Kind: EventMessageDead, At: time.Now(), Reason: "expired", Count: len(a.IDs)})
	default:
		for _, id := range a.IDs {
			all = append(all, Event{Kind: EventMessageSetAside, At: time.Now(), Message: id, Reason: a.Reason, Count: 1})
		}
	}
	if len(a.IDs) == 1 && len(all) == 1 {
		all[0].Message = a.IDs[0]
	}
	return all
}

// attemptMade is an attempt in the form that OnAttempt gets.
func attemptMade(m *postgres.Message, a delivery.Answer, v schedule.Verdict) Attempt {
	return Attempt{
		Message: m.ID, RunID: m.RunID, Endpoint: lane.Origin(m.Endpoint), Tenant: lane.Tenant(m.Endpoint), URL: m.URL, Number: m.Attempt,
		StartedAt: a.StartedAt, Duration: a.Duration, Class: a.Class, StatusCode: a.StatusCode, Err: a.Err,
		Action: string(v.Action), Reason: v.Reason, RetryIn: v.Delay,
	}
}
