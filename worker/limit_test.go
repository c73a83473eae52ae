package worker

import (
	"net/http"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestAWorkerKeepsToALimitOfRequestsInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	to := newReceiver(t, func(http.ResponseWriter, request) { <-release })
	for range 20 {
		r.writeTo(to.URL, "run")
	}
	if err := r.store.Limit(t.Context(), to.URL, operator.Limits{MaxInFlight: 2}, ""); err != nil {
		t.Fatal(err)
	}
	c := r.config()
	c.DeliveryTimeout, c.Lease = testPatience, 2*testPatience
	r.run(c)
	r.await("two requests are under way", func() bool { return len(to.requests()) == 2 })
	neighbour := newReceiver(t, nil)
	for range 5 { // meanwhile the worker claims
		r.awaitState(r.writeTo(neighbour.URL, "run"), outbox.StateDelivered)
	}
	if n := len(to.requests()); n != 2 {
		t.Errorf("%d requests at once, want 2", n)
	}
	close(release)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
}
