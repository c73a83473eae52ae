package worker

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// strangers are what one path of an origin may do to the others.
var strangers = map[string]struct {
	messages int
	answer   http.HandlerFunc
}{
	"is gone":                 {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }},
	"are gone":                {40, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }},
	"asks to be left alone":   {1, leaveAlone},
	"ask to be left alone":    {40, leaveAlone},
	"hang":                    {40, neverAnswer},
	"fail":                    {40, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
	"reset their connections": {40, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
}

func neverAnswer(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a server sees that its client is gone only then
	<-r.Context().Done()
}

func leaveAlone(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "3600")
	w.WriteHeader(http.StatusTooManyRequests)
}

// sharedReceiver is one origin at which /stranger does as it likes and every other path answers.
func sharedReceiver(t *testing.T, stranger http.HandlerFunc) *receiver {
	t.Helper()
	to := newReceiver(t, nil)
	inner := to.Config.Handler
	to.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stranger" {
			stranger(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
	return to
}

// TestAStrangersPathStopsNoOtherOfItsOrigin, with tenants and without, whatever the stranger does, and though his messages
// were due first.
func TestAStrangersPathStopsNoOtherOfItsOrigin(t *testing.T) {
	t.Parallel()
	for _, tenants := range []bool{false, true} {
		for what, stranger := range strangers {
			t.Run(fmt.Sprintf("%s, tenants: %v", what, tenants), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				to := sharedReceiver(t, stranger.answer)
				write := func(path, tenant string) outbox.ID {
					m := outbox.Message{Outcome: testdb.Outcome("run", to.URL), URL: to.URL + path}
					if tenants {
						m.Tenant = tenant
					}
					return r.write(m)
				}
				for range stranger.messages {
					write("/stranger", "stranger")
				}
				var honest []outbox.ID
				for range 30 {
					honest = append(honest, write("/honest", "honest"))
				}
				c := r.config()
				c.RetrySchedule = []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second, time.Second, time.Second}
				c.OpenFor, c.OpenForMax = time.Hour, time.Hour // who waits for a circuit breaker, waits too long
				r.run(c)
				for range 30 { // and those that are written while the stranger is at work
					time.Sleep(5 * time.Millisecond)
					honest = append(honest, write("/honest", "honest"))
				}
				r.await("all honest messages are delivered", func() bool { return len(to.requests()) >= len(honest) })
				for _, id := range honest {
					if d := r.awaitState(id, outbox.StateDelivered); d.Attempts != 1 {
						t.Errorf("%d attempts", d.Attempts)
					}
				}
			})
		}
	}
}

// TestATenantsBacklogDelaysNoOtherTenantOfItsOrigin: each has turns and a part of the window of its own.
func TestATenantsBacklogDelaysNoOtherTenantOfItsOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(http.ResponseWriter, request) { time.Sleep(time.Millisecond) }) // a receiver's work
	const backlog = 10_000
	r.exec(`WITH m AS (
    INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, tenant)
    SELECT gen_random_uuid(), 'flood', 'succeeded', '{}', 0, $1::text || '/flood', $1, 'flood' FROM generate_series(1, $2::integer)
    RETURNING id, endpoint
)
INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT id, endpoint || ' flood', now() - interval '1 h' FROM m`, to.URL, backlog)
	c := r.config()
	c.MaxInFlight, c.EndpointMaxInFlight = 8, 4
	r.run(c)
	r.await("the flood is being delivered", func() bool { return len(to.requests()) > 50 })
	for range 20 {
		m := outbox.Message{Outcome: testdb.Outcome("run", to.URL), URL: to.URL + "/honest", Tenant: "honest"}
		r.awaitState(r.write(m), outbox.StateDelivered)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE endpoint LIKE '% flood'`); n == 0 {
		t.Error("the backlog was delivered first")
	}
}

// TestTenantsTogetherKeepWithinTheWindowOfTheirOrigin.
func TestTenantsTogetherKeepWithinTheWindowOfTheirOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var atOnce maximum
	to := newReceiver(t, func(http.ResponseWriter, request) {
		atOnce.begin()
		time.Sleep(2 * time.Millisecond) // a receiver's work, for requests to meet
		atOnce.end()
	})
	for i := range 400 {
		r.write(outbox.Message{Outcome: testdb.Outcome("run", to.URL), URL: to.URL, Tenant: fmt.Sprint("tenant-", i%5)})
	}
	c := r.config()
	c.MaxInFlight, c.EndpointMaxInFlight = 64, 6
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := atOnce.seen(); n > 6 || n < 2 {
		t.Errorf("%d requests were in flight at once, want 6 at the most", n)
	}
}
