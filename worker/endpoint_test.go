package worker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// endpoint returns what is remembered of an endpoint.
func (r *rig) endpoint(endpoint string) (e outbox.EndpointStatus, ok bool) {
	r.t.Helper()
	list, err := r.store.Endpoints(r.t.Context(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range list {
		if e.Endpoint == endpoint {
			return e, true
		}
	}
	return e, false
}

func TestAnEndpointThatIsGoneIsPausedUntilItIsResumed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gone := make(chan struct{}) // closed when the endpoint comes back
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		select {
		case <-gone:
		default:
			w.WriteHeader(http.StatusGone)
		}
	})
	first := r.writeTo(to.URL+"/a", "run-1")
	r.run(r.config())
	d := r.awaitState(first, outbox.StateDead)
	if *d.DeadReason != "gone" || d.Attempts != 1 {
		t.Errorf("dead: %s after %d attempts", *d.DeadReason, d.Attempts)
	}
	e, _ := r.endpoint(to.URL)
	if !e.Paused || e.Reason == nil || !strings.Contains(*e.Reason, "410") {
		t.Errorf("the endpoint: %+v", e)
	}
	if n := r.count(`SELECT count(DISTINCT x.xmin::text) FROM (SELECT xmin FROM outbox.dead UNION ALL SELECT xmin FROM outbox.endpoint
UNION ALL SELECT xmin FROM outbox.attempt) x`); n != 1 {
		t.Errorf("death, pause and attempt were written by %d transactions", n)
	}

	second := r.writeTo(to.URL+"/b", "run-2")
	other := r.writeTo(newReceiver(t, nil).URL, "run-3")
	r.awaitState(other, outbox.StateDelivered) // claims went by
	if d := r.state(second); d.State != outbox.StatePending || d.Attempts != 0 {
		t.Errorf("a message to the paused endpoint is %s with %d attempts", d.State, d.Attempts)
	}
	close(gone)
	if resumed, err := r.store.Resume(t.Context(), to.URL); err != nil || !resumed {
		t.Fatalf("resume: %v, %v", resumed, err)
	}
	r.awaitState(second, outbox.StateDelivered)
	if n := len(to.requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestRetryAfterHoldsTheWholeEndpoint(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			to := newReceiver(t, func(w http.ResponseWriter, req request) {
				if req.path == "/first" {
					w.Header().Set("Retry-After", "600")
					w.WriteHeader(status)
				}
			})
			healthy := newReceiver(t, nil)
			first := r.writeTo(to.URL+"/first", "run-1")
			r.run(r.config()) // its own waits are of milliseconds
			r.awaitState(first, outbox.StateRetrying)
			e, _ := r.endpoint(to.URL)
			if e.Paused || e.OpenUntil == nil || text(e.Reason) == "" {
				t.Errorf("the endpoint: %+v", e)
			}

			second := r.writeTo(to.URL+"/second", "run-2")
			r.awaitState(r.writeTo(healthy.URL, "run-3"), outbox.StateDelivered)
			if d := r.state(second); d.State != outbox.StatePending || d.Attempts != 0 {
				t.Errorf("a message to the held endpoint is %s with %d attempts", d.State, d.Attempts)
			}
			if n := len(to.requests()); n != 1 {
				t.Errorf("the endpoint asked to be left alone, and got %d requests", n)
			}

			if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE open_until BETWEEN now() + interval '9 min' AND now() + interval '10 min'`); n != 1 {
				t.Error("the endpoint is not held for the 600 s it asked for")
			}
			r.exec(`UPDATE outbox.endpoint SET open_until = open_until - interval '600 s'`) // by the database's clock they go by
			r.awaitState(second, outbox.StateDelivered)
			if d := r.state(first); d.State != outbox.StateRetrying {
				t.Errorf("the message that was told to wait is %s", d.State)
			}
			r.exec(`UPDATE outbox.due SET due_at = due_at - interval '600 s'`)
			r.await("it is tried again", func() bool { return len(r.state(first).AttemptList) == 2 })
		})
	}
}

func TestRetryAfterIsCappedByTheWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		w.Header().Set("Retry-After", map[string]string{
			"/seconds": "99999999999999", "/date": "Fri, 31 Dec 9999 23:59:59 GMT", "/past": "Thu, 01 Jan 1970 00:00:00 GMT",
		}[req.path])
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c := r.once()
	c.RetrySchedule, c.RetryAfterMax = []time.Duration{time.Minute}, 10*time.Minute
	r.run(c)
	for path, held := range map[string]int{"/seconds": 1, "/date": 1, "/past": 0} {
		id := r.writeTo(to.URL+path, path)
		r.awaitState(id, outbox.StateRetrying)
		if n := r.count(`SELECT count(*) FROM outbox.endpoint
WHERE open_until > now() + interval '9 min' AND open_until <= now() + interval '10 min'`); n != held {
			t.Errorf("%s: %d endpoints are held for what the cap allows, want %d", path, n, held)
		}
		if _, err := r.store.Resume(t.Context(), to.URL); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRetryAfterCountsOnALaterFailureToo, when something of the endpoint is remembered already.
func TestRetryAfterCountsOnALaterFailureToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		if req.path == "/later" {
			w.Header().Set("Retry-After", "600")
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	r.run(r.once())
	r.awaitState(r.writeTo(to.URL+"/first", "run-1"), outbox.StateRetrying)
	r.awaitState(r.writeTo(to.URL+"/later", "run-2"), outbox.StateRetrying)
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE open_until BETWEEN now() + interval '9 min' AND now() + interval '10 min'`); n != 1 {
		t.Error("the endpoint is not held for the 600 s it asked for")
	}
}
