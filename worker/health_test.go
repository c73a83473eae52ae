package worker

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// unhealthy is a receiver that answers 500 until well is set.
func unhealthy(t testing.TB) (to *receiver, well *atomic.Bool) {
	t.Helper()
	well = new(atomic.Bool)
	return newReceiver(t, func(w http.ResponseWriter, _ request) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}), well
}

// health is a row of outbox.endpoint, zero when there is none.
type health struct {
	Paused    bool
	OpenUntil *time.Time
	Failures  int
	Reason    string
}

// health reads the row of a lane.
func (r *rig) health(of string) (h health) {
	r.t.Helper()
	err := r.Pool.QueryRow(r.t.Context(), inSchema(`SELECT paused, open_until, failures, reason FROM outbox.endpoint WHERE endpoint = $1`, r.Schema), of).
		Scan(&h.Paused, &h.OpenUntil, &h.Failures, &h.Reason)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		r.t.Fatal(err)
	}
	return h
}

// urlLane is the lane that a URL gets when it is set aside, for messages without a tenant.
func urlLane(to *receiver, path string) string { return lane.OfURL(to.URL, to.URL+path) }

// quickBreaker is a configuration whose circuit breakers open after three failures, for longer than a test takes: the tests
// call endTheTime.
func (r *rig) quickBreaker() Config {
	c := r.config()
	c.OpenAfter, c.OpenFor, c.OpenForMax = 3, time.Hour, 3*time.Hour
	c.RetrySchedule = []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0}
	return c
}

// now is the database's clock.
func (r *rig) now() (now time.Time) {
	r.t.Helper()
	if err := r.Pool.QueryRow(r.t.Context(), `SELECT clock_timestamp()`).Scan(&now); err != nil {
		r.t.Fatal(err)
	}
	return now
}

// endTheTime makes every open circuit breaker half-open.
func (r *rig) endTheTime() {
	r.t.Helper()
	if _, err := r.Pool.Exec(r.t.Context(), inSchema(`UPDATE outbox.endpoint SET open_until = now()`, r.Schema)); err != nil {
		r.t.Fatal(err)
	}
}

func TestAURLThatFailsInARowIsSetAsideAndItsMessagesWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to, well := unhealthy(t)
	id := r.writeTo(to.URL, "run-1")
	r.run(r.quickBreaker())
	r.await("the URL is set aside", func() bool { return r.health(urlLane(to, "")).OpenUntil != nil })
	requests := len(to.requests())

	other := r.writeTo(to.URL, "run-2")
	neighbour := newReceiver(t, nil)
	r.awaitState(r.writeTo(neighbour.URL, "run-3"), outbox.StateDelivered) // the worker has scanned and claimed since
	if d := r.state(other); d.State != outbox.StatePending || d.Attempts != 0 {
		t.Errorf("a message of the URL is %s after %d attempts, want pending after none", d.State, d.Attempts)
	}
	if n := len(to.requests()); n != requests {
		t.Errorf("%d requests reached the URL that is set aside, want none", n-requests)
	}
	if reason := r.health(urlLane(to, "")).Reason; reason != "failing: answered 500" {
		t.Errorf("the reason is %q, want that it answered 500", reason)
	}
	if h := r.health(to.URL); h.OpenUntil != nil || h.Failures != 0 {
		t.Errorf("the origin's row is %+v, want no failures and no time", h)
	}

	well.Store(true)
	r.endTheTime()
	r.awaitState(id, outbox.StateDelivered)
	r.awaitState(other, outbox.StateDelivered)
	if e := r.health(urlLane(to, "")); e.OpenUntil != nil || e.Failures != 0 {
		t.Errorf("after an answer the circuit breaker is open until %v, with %d failures; want it closed", e.OpenUntil, e.Failures)
	}
}

func TestAURLThatIsSetAsideIsProbedByOneMessageAtGrowingIntervals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to, _ := unhealthy(t)
	for range 20 {
		r.writeTo(to.URL, "run")
	}
	r.run(r.quickBreaker())
	r.run(r.quickBreaker())
	r.await("the URL is set aside", func() bool { return r.health(urlLane(to, "")).OpenUntil != nil })
	settled := func() bool { return r.count(`SELECT count(*) FROM outbox.due WHERE locked_by IS NOT NULL`) == 0 }
	opened := r.now() // a claim that began earlier may still be under way; it is not visible before its commit
	r.await("no claim is under way that began before the endpoint opened", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND xact_start < $2`, r.Name, opened) == 0
	})
	r.await("all requests are recorded", settled)
	until := func() float64 {
		var hours float64
		err := r.Pool.QueryRow(t.Context(), inSchema(`SELECT extract(epoch FROM open_until - now()) / 3600 FROM outbox.endpoint`, r.Schema)).Scan(&hours)
		if err != nil {
			t.Fatal(err)
		}
		return hours
	}
	for i, want := range []float64{2, 3, 3} { // hours: the time doubles up to its maximum
		requests := len(to.requests())
		r.endTheTime()
		r.await("the probe's failure is recorded", func() bool { return until() > 0.5 && settled() })
		if n := len(to.requests()) - requests; n != 1 {
			t.Errorf("probe %d was %d requests, want 1", i, n)
		}
		if got := until(); got < want*0.79 || got > want*1.21 {
			t.Errorf("after probe %d the circuit breaker is open for %.2f h, want %v h ±20 %%", i, got, want)
		}
	}
}

func TestAnAnswerBetweenFailuresKeepsCircuitBreakersClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var n atomic.Int64
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		if n.Add(1)%3 != 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	c := r.quickBreaker()
	c.MaxInFlight = 1 // one after the other, so that their order is certain
	for range 10 {
		r.writeTo(to.URL, "run")
	}
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
}

func TestARefusalIsNoFailureOfTheEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusNotFound) })
	for range 10 {
		r.writeTo(to.URL, "run")
	}
	r.run(r.quickBreaker())
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := r.count(`SELECT count(*) FROM outbox.endpoint`); n != 0 {
		t.Errorf("%d endpoints have a row, want none", n)
	}
}
