package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// TestAPauseMakesAnEvent, though the command that pauses has no URL for events.
func TestAPauseMakesAnEvent(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	key := generated(t, webhook.HMAC)
	events := make(chan string, 100)
	ops := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, err := (webhook.Verifier{Keys: webhook.Keys{key}}).Verify(r.Header, body); err != nil {
			t.Errorf("the event is not verified: %v", err)
		}
		events <- string(body)
	}))
	t.Cleanup(ops.Close)
	written(t, db, ofTenant("acme", "r"))
	invoke(t, environment(db), "pause", endpointA).wants(t, exitOK) // no worker has a URL for events yet
	invoke(t, environment(db), "resume", endpointA).wants(t, exitOK)
	secret := ops.URL + "/T0KEN"
	worker, _ := beginWorker(t, append(environment(db), "OUTBOX_EVENTS_URL="+secret, "OUTBOX_SIGNING_KEYS=events="+key.Reveal(), "OUTBOX_ALLOWED_CIDRS=", "OUTBOX_ALLOW_HTTP="))
	for deadline := time.Now().Add(patience); !wanted(t, db); time.Sleep(10 * time.Millisecond) { // the row says that the worker wants events, and no event tells when it is written
		if time.Now().After(deadline) {
			t.Fatalf("the worker has not written a row to event_wanted within %v", patience)
		}
	}
	invoke(t, environment(db), "pause", endpointA, "--reason", "maintenance").wants(t, exitOK)
	select {
	case body := <-events:
		for _, part := range []string{`"type":"outbox.endpoint.paused"`, `"endpoint":"` + endpointA + `"`, `"reasons":{"maintenance":1}`, `"count":1`} {
			if !strings.Contains(body, part) {
				t.Errorf("the event does not contain %s: %s", part, body)
			}
		}
	case <-time.After(patience):
		t.Fatalf("no event arrived within %v:\n%s", patience, worker.said())
	}
	list := invoke(t, environment(db), "list", "--endpoint", "event")
	list.wants(t, exitOK, "(event)")
	id := strings.TrimSpace(invoke(t, environment(db), "list", "--endpoint", "event", "--ids").stdout)
	show := invoke(t, environment(db), "show", id)
	show.wants(t, exitOK, "kind       event", `"type":"outbox.endpoint.paused"`)
	invoke(t, environment(db), "replay", id, "--url", "https://other.example/").wants(t, exitFailed, "is an event")
	status, _ := worker.end()
	if status != exitOK || strings.Contains(worker.said()+list.stdout+show.stdout, "T0KEN") {
		t.Errorf("exit status %d, want 0, and no secret of the URL in the output:\n%s", status, worker.said())
	}
}

func TestTheURLForEventsNeedsAKeyAndItsPathIsNotShown(t *testing.T) {
	t.Parallel()
	env := []string{"OUTBOX_DATABASE_URL=postgres://db/app", "OUTBOX_EVENTS_URL=https://hooks.chat.example/T0KEN"}
	got := invoke(t, env, "config")
	if strings.Contains(got.stdout+got.stderr, "T0KEN") || !strings.Contains(got.stdout+got.stderr, "OUTBOX_EVENTS_URL is set and OUTBOX_SIGNING_KEYS is not") {
		t.Errorf("got %s%s\nwant a fault of the missing keys, without the URL's path", got.stdout, got.stderr)
	}
	key := generated(t, webhook.HMAC)
	got = invoke(t, append(env, "OUTBOX_SIGNING_KEYS=default="+key.Reveal()), "config")
	got.wants(t, exitOK, "https://hooks.chat.example/xxxxx")
	if strings.Contains(got.stdout+got.stderr, "T0KEN") {
		t.Errorf("got %s%s\nwant the URL without its path", got.stdout, got.stderr)
	}
	got = invoke(t, []string{"OUTBOX_DATABASE_URL=postgres://db/app", "OUTBOX_EVENTS_URL=ftp://hooks.chat.example/T0KEN"}, "config")
	if got.status == exitOK || strings.Contains(got.stdout+got.stderr, "T0KEN") || !strings.Contains(got.stdout+got.stderr, "OUTBOX_EVENTS_URL: url: scheme") {
		t.Errorf("got %s%s\nwant a fault of the URL's scheme, without the path", got.stdout, got.stderr)
	}
}

// wanted reports whether a worker has said that it wants events.
func wanted(t *testing.T, db *testdb.DB) (yes bool) {
	t.Helper()
	if err := db.Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM "+db.Schema+".event_wanted)").Scan(&yes); err != nil {
		t.Fatal(err)
	}
	return yes
}
