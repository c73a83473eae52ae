package delivery

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func eventMessage() Message {
	return Message{ID: outbox.NewID(), RunID: event.RunID, Status: outbox.Succeeded, Body: []byte(`{"type":"outbox.breaker.opened"}`), URL: event.URL, Options: []byte(event.Options), Event: true}
}

// eventConfig returns a configuration that forbids loopback addresses and http, and has a key set of each of these names.
func eventConfig(t *testing.T, url string, sets ...string) (Config, map[string]webhook.Keys) {
	t.Helper()
	c := allowing()
	c.AllowHTTP, c.EventsURL = false, url
	keys := map[string]webhook.Keys{}
	for _, name := range sets {
		keys[name] = webhook.Keys{generate(t, webhook.HMAC)}
	}
	c.Keys = newRing(keys)
	return c, keys
}

func isSignedBy(t *testing.T, keys webhook.Keys, got request) {
	t.Helper()
	if _, err := (webhook.Verifier{Keys: keys}).Verify(got.header, []byte(got.body)); err != nil {
		t.Error(err)
	}
}

func TestOnlyASignedEventMayGoToAURLThatThePolicyForbids(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	c, ring := eventConfig(t, r.URL+"/token", "", "events")
	s := newSender(t, c)
	m := eventMessage()
	wantDelivered(t, "the event", s.Send(t.Context(), m))
	got := r.last(t)
	if got.path != "/token" || got.body != string(m.Body) || got.id != m.ID.String() || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("the receiver got %+v, want the event at /token", got)
	}
	if got.header["Workflow-Run-Id"] != nil || got.header["Workflow-Run-Status"] != nil {
		t.Error("the event has the headers of a run, want none")
	}
	isSignedBy(t, ring["events"], got)
	c.AllowHTTP = true
	s = newSender(t, c)
	wantDelivered(t, "the event", s.Send(t.Context(), eventMessage())) // the connection stays open
	for range 2 {
		if a := s.Send(t.Context(), messageTo(r.URL+"/token")); a.Class != ClassBlocked || !strings.Contains(a.Err, "not a public address") {
			t.Errorf("a message to the same origin: %s, want class %s", describe(a), ClassBlocked)
		}
	}
	if n := len(r.requests()); n != 2 {
		t.Errorf("the receiver got %d requests, want 2", n)
	}
}

func TestTheDefaultKeySetSignsEventsIfTheyHaveNoOther(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	c, ring := eventConfig(t, r.URL, "")
	wantDelivered(t, "the event", sendOnce(t, c, eventMessage()))
	isSignedBy(t, ring[""], r.last(t))
}

func TestAnEventWaitsForAURLAndForAKey(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusOK) })
	noURL, _ := eventConfig(t, "", "")
	noKey, _ := eventConfig(t, r.URL, "another")
	noKeys, _ := eventConfig(t, r.URL)
	noKeys.Keys = nil
	for what, c := range map[string]Config{"OUTBOX_EVENTS_URL": noURL, `signing key "events"`: noKey, `"events": this worker`: noKeys} {
		if a := sendOnce(t, c, eventMessage()); !strings.Contains(a.WaitsFor, what) || a.Class != "" {
			t.Errorf("%s: %s, want that the event waits for this", what, describe(a))
		}
	}
	if n := len(r.requests()); n != 0 {
		t.Errorf("the receiver got %d requests, want none", n)
	}
}

func TestAMessageThatIsNotAnEventIsNotSentAsOne(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	c, _ := eventConfig(t, r.URL, "")
	m := messageTo(r.URL)
	m.Event = true
	if a := sendOnce(t, c, m); a.Class != ClassBlocked || len(r.requests()) != 0 {
		t.Errorf("%s, want class %s and no request", describe(a), ClassBlocked)
	}
}

// TestAWorkerThatKnowsNoEventsHoldsThemBack: so does a worker from before version 9, whatever its keys and its policy are.
func TestAWorkerThatKnowsNoEventsHoldsThemBack(t *testing.T) {
	t.Parallel()
	c, _ := eventConfig(t, "", "")
	m := eventMessage()
	m.Event = false // such a worker does not know the field
	a := sendOnce(t, c, m)
	if a.Class != "" || !strings.Contains(a.WaitsFor, event.Mark) {
		t.Errorf("%s, want that the event waits for the key set %q", describe(a), event.Mark)
	}
}
