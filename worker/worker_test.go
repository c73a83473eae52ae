package worker

import (
	"net/http"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestACommittedOutcomeIsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	id := r.writeTo(to.URL+"/hook", "run-1")
	r.run(r.config())
	d := r.awaitState(id, outbox.StateDelivered)

	got := to.requests()
	if len(got) != 1 {
		t.Fatalf("the receiver got %d requests, want 1", len(got))
	}
	want := request{id: id.String(), runID: "run-1", status: "succeeded", body: `{"ok":true}`}
	if got[0].id != want.id || got[0].runID != want.runID || got[0].status != want.status || got[0].body != want.body {
		t.Errorf("the receiver got %+v, want %+v", got[0], want)
	}
	if len(d.AttemptList) != 1 || d.AttemptList[0].Class != "delivered" || *d.AttemptList[0].StatusCode != 200 {
		t.Errorf("attempts: %+v", d.AttemptList)
	}
}

func TestAFailedAttemptIsRetriedUnderTheSameID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := 0
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	id := r.writeTo(to.URL, "run-1")
	r.run(r.config())
	d := r.awaitState(id, outbox.StateDelivered)
	for _, got := range to.requests() {
		if got.id != id.String() {
			t.Errorf("webhook-id %s, want %s", got.id, id)
		}
	}
	if len(d.AttemptList) != 3 || d.Attempts != 3 {
		t.Errorf("attempts %d, list %+v; want 3", d.Attempts, d.AttemptList)
	}
}
