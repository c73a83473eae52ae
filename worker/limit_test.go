package worker

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

const limited = "https://limited.test"

func (r *rig) limit(l outbox.Limits) {
	r.t.Helper()
	if err := r.store.Limit(r.t.Context(), limited, l, ""); err != nil {
		r.t.Fatal(err)
	}
}

// granted moves the endpoint's last grant into the past: the database's clock as a test drives it.
func (r *rig) granted(ago string) {
	r.exec(fmt.Sprintf(`UPDATE outbox.endpoint SET granted_at = now() - interval '%s'`, ago))
}

func TestARateGrantsWhatItLeftSinceTheLastGrantAndNoMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 50 {
		r.writeTo(limited+"/hook", "run")
	}
	r.limit(outbox.Limits{RatePerSecond: 5})
	for _, c := range []struct {
		ago  string
		want int
	}{{"0 s", 0}, {"0.3 s", 1}, {"0.7 s", 3}, {"1 h", 5}} { // of one second at the most
		r.granted(c.ago)
		if n := len(r.claim("w")); n != c.want {
			t.Errorf("%s after the last grant %d were claimed, want %d", c.ago, n, c.want)
		}
		if n := len(r.claim("w")); n != 0 {
			t.Errorf("%d more were claimed at once", n)
		}
	}
	r.limit(outbox.Limits{})
	if n := len(r.claim("w")); n != 50-9 {
		t.Errorf("without a limit %d were claimed, want the %d that are left", n, 50-9)
	}
}

func TestARateBelowOnePerSecondStillGrants(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo(limited, "run-1")
	r.writeTo(limited, "run-2")
	r.limit(outbox.Limits{RatePerSecond: 0.1})
	r.granted("9 s")
	if n := len(r.claim("w")); n != 0 {
		t.Errorf("%d claimed after nine seconds of ten", n)
	}
	r.granted("11 s")
	if n := len(r.claim("w")); n != 1 {
		t.Errorf("%d claimed after eleven seconds of ten, want 1", n)
	}
}

func TestALimitOfRequestsHoldsPerWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	to := newReceiver(t, func(http.ResponseWriter, request) { <-release })
	for range 20 {
		r.writeTo(to.URL, "run")
	}
	if err := r.store.Limit(t.Context(), to.URL, outbox.Limits{MaxInFlight: 2}, ""); err != nil {
		t.Fatal(err)
	}
	c := r.config()
	c.DeliveryTimeout, c.Lease = testPatience, 2*testPatience
	r.run(c)
	r.await("two are under way", func() bool { return len(to.requests()) == 2 })
	neighbour := newReceiver(t, nil)
	for range 5 { // the worker goes on claiming
		r.awaitState(r.writeTo(neighbour.URL, "run"), outbox.StateDelivered)
	}
	if n := len(to.requests()); n != 2 {
		t.Errorf("%d requests at once, want 2", n)
	}
	close(release)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
}
