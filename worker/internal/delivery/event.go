package delivery

import (
	"errors"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// EventsKeySet is the name of the key set that signs events. If there is none, the default one signs them.
const EventsKeySet = "events"

// eventSender sends events to the one URL that the operator configured for them. It dials any address of the URL's host, because
// no submitter chose it. Its connections are its own, so that no message is ever sent over one that the guard did not check.
type eventSender struct {
	*Sender
	url string
}

// newEventSender returns nil for "". like is the transport that messages are sent with.
func newEventSender(c Config, d *dialer, like *Sender) (*eventSender, error) {
	if c.EventsURL == "" {
		return nil, nil
	}
	url, _, err := callback.Normalize(c.EventsURL)
	if err != nil {
		return nil, err
	}
	trusting := *d
	trusting.guard = &guard{trusts: true}
	own := *like
	own.transport, own.fresh, own.allowHTTP, own.secrets = newTransport(c, &trusting), newTransport(c, &trusting), true, nil
	own.targets = &targets{}
	own.fresh.DisableKeepAlives = true
	return &eventSender{&own, url}, nil
}

func (s *eventSender) close() {
	if s != nil {
		s.transport.CloseIdleConnections()
		s.fresh.CloseIdleConnections()
	}
}

// errNoEvent is why a message in the lane of events is not sent. Only a worker marks events, so somebody else put it there.
var errNoEvent = errors.New("it waits where events do and is none")

// attemptEvent is attempt for an event. Its row has neither the URL nor the key: they are this worker's.
func (s *eventSender) attemptEvent(t *trip, m Message, p parts, in span, a *Answer) {
	switch {
	case p.options.SigningKey != event.Mark || p.options.SecretHeaders != event.Mark:
		a.Class, a.Err = ClassBlocked, errNoEvent.Error()
		return
	case s == nil:
		a.WaitsFor = "a URL for events: this worker has none (OUTBOX_EVENTS_URL)"
		return
	}
	m.URL = s.url
	s.attempt(t, m, parts{options: outbox.Options{ContentType: "application/json", SigningKey: s.keySet()}}, in, a)
}

// keySet is the name of the key set that signs events: an event is never sent unsigned.
func (s *eventSender) keySet() string {
	if s.keys != nil {
		if _, ok := s.keys.Keys(EventsKeySet); ok {
			return EventsKeySet
		}
		if _, ok := s.keys.Keys(""); ok {
			return ""
		}
	}
	return EventsKeySet
}

// addRun sets the headers that say how a run ended. An event has no run.
func addRun(own *ownHeaders, m Message, n *headerNote) {
	if m.Event {
		return
	}
	own.set("Workflow-Run-Status", m.Status.String())
	if header.Check("Workflow-Run-Id", m.RunID) == nil {
		own.set("Workflow-Run-Id", n.trim("Workflow-Run-Id", m.RunID))
	} else {
		n.leftOut = append(n.leftOut, "Workflow-Run-Id: the run id holds a control character")
	}
}
