package worker

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAURLThatIsGoneHarmsNoOtherOfItsOrigin: its messages are tried one at a time and die, and the messages to other URLs
// of its origin are delivered.
func TestAURLThatIsGoneHarmsNoOtherOfItsOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var now, most atomic.Int64
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		if req.path == "/gone" {
			most.Store(max(most.Load(), now.Add(1)))
			w.WriteHeader(http.StatusGone)
			now.Add(-1)
		}
	})
	r.run(r.config())
	r.awaitState(r.writeTo(to.URL+"/gone", "the first"), outbox.StateDead)
	most.Store(0)
	var dead, delivered []outbox.ID
	for range 20 {
		dead = append(dead, r.writeTo(to.URL+"/gone", "run"))
		delivered = append(delivered, r.writeTo(to.URL+"/there", "run"))
	}
	for i := range dead {
		if d := r.awaitState(dead[i], outbox.StateDead); *d.DeadReason != "gone" || d.Attempts != 1 {
			t.Errorf("the message is dead as %s after %d attempts, want gone after 1", *d.DeadReason, d.Attempts)
		}
		r.awaitState(delivered[i], outbox.StateDelivered)
	}
	if n := most.Load(); n != 1 {
		t.Errorf("%d messages of the URL were tried at once, want 1", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE paused OR open_until > now()`); n != 0 {
		t.Errorf("%d endpoints are held back, want none", n)
	}
}

// TestURLsOfATenantThatAreGoneHaveOneLineInTheLog, not one line each: each message may have a URL of its own.
func TestURLsOfATenantThatAreGoneHaveOneLineInTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusGone) })
	lines := &logLines{}
	c := r.config()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	r.run(c)
	for i := range 20 {
		r.awaitState(r.writeTo(fmt.Sprintf("%s/%d", to.URL, i), "run"), outbox.StateDead)
	}
	if n := lines.count("endpoint: gone"); n != 1 {
		t.Errorf("%d lines say that an endpoint is gone, want 1", n)
	}
}

// TestAURLThatWasGoneGetsMessagesAgain once it accepts one.
func TestAURLThatWasGoneGetsMessagesAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var back atomic.Bool
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		if !back.Load() {
			w.WriteHeader(http.StatusGone)
		}
	})
	r.run(r.config())
	r.awaitState(r.writeTo(to.URL, "run"), outbox.StateDead)
	back.Store(true)
	for range 20 {
		r.writeTo(to.URL, "run")
	}
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE failures > 0`); n != 0 {
		t.Errorf("%d endpoints have failures, want none", n)
	}
}

func TestRetryAfterHoldsItsURLAndNoOther(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			to := newReceiver(t, func(w http.ResponseWriter, req request) {
				if req.path == "/busy" {
					w.Header().Set("Retry-After", "600")
					w.WriteHeader(status)
				}
			})
			first := r.writeTo(to.URL+"/busy", "run-1")
			r.run(r.config()) // the worker's own retry waits take milliseconds
			r.awaitState(first, outbox.StateRetrying)
			if h := r.health(urlLane(to, "/busy")); h.Paused || h.OpenUntil == nil || h.Reason != "Retry-After" {
				t.Errorf("the URL's row is %+v; want it held for Retry-After", h)
			}

			second := r.writeTo(to.URL+"/busy", "run-2")
			r.awaitState(r.writeTo(to.URL+"/other", "run-3"), outbox.StateDelivered)
			r.await("the second message is moved into the URL's lane", func() bool {
				return r.count(`SELECT count(*) FROM outbox.due WHERE message_id = $1 AND endpoint = $2 AND locked_by IS NULL`, second, urlLane(to, "/busy")) == 1
			})
			if d := r.state(second); d.Attempts != 0 {
				t.Errorf("the second message is %s after %d attempts, want none", d.State, d.Attempts)
			}
			if n := len(to.requests()); n != 2 {
				t.Errorf("the receiver got %d requests, want 2: one to the held URL and one to the other", n)
			}

			if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE open_until BETWEEN now() + interval '9 min' AND now() + interval '10 min'`); n != 1 {
				t.Errorf("%d endpoints are held for the 600 s of Retry-After, want 1", n)
			}
			r.exec(`UPDATE outbox.endpoint SET open_until = open_until - interval '600 s'`) // as if 600 s passed by the database's clock
			r.await("the second message is tried", func() bool { return len(r.state(second).AttemptList) == 1 })
			if d := r.state(first); d.State != outbox.StateRetrying {
				t.Errorf("the first message is %s, want retrying", d.State)
			}
		})
	}
}

// TestRetryAfterFromThreeURLsHoldsTheirOrigin: then the whole origin seems to be overloaded.
func TestRetryAfterFromThreeURLsHoldsTheirOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		if req.path != "/other" {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	r.run(r.config())
	for i := range 3 {
		if h := r.health(to.URL); h.OpenUntil != nil {
			t.Errorf("after %d URLs the origin is held, want it held after 3", i)
		}
		r.awaitState(r.writeTo(fmt.Sprintf("%s/%d", to.URL, i), "run"), outbox.StateRetrying)
	}
	if h := r.health(to.URL); h.OpenUntil == nil || h.Reason != "Retry-After" {
		t.Errorf("after three URLs the origin's row is %+v; want it held for Retry-After", h)
	}
	other := r.writeTo(to.URL+"/other", "run")
	r.awaitState(r.writeTo(newReceiver(t, nil).URL, "run"), outbox.StateDelivered) // the worker has claimed meanwhile
	if d := r.state(other); d.Attempts != 0 {
		t.Errorf("a message to a fourth URL had %d attempts, want none", d.Attempts)
	}
	r.exec(`UPDATE outbox.endpoint SET open_until = now()`)
	r.awaitState(other, outbox.StateDelivered)
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
			t.Errorf("%s: %d endpoints are held for the cap of 10 min, want %d", path, n, held)
		}
		r.exec(`DELETE FROM outbox.endpoint`)
	}
}

// TestRetryAfterCountsOnALaterFailureToo, when the endpoint has a row already.
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
		t.Errorf("%d endpoints are held for the 600 s of Retry-After, want 1", n)
	}
}
