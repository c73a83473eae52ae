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

// strangers are ways in which one path of an origin may harm the other paths.
var strangers = map[string]struct {
	messages int
	answer   http.HandlerFunc
}{
	"is gone":                 {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }},
	"are gone":                {40, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }},
	"sends Retry-After":       {1, retryLater},
	"send Retry-After":        {40, retryLater},
	"hang":                    {40, neverAnswer},
	"fail":                    {40, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
	"reset their connections": {40, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
}

func neverAnswer(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only after this does a server notice that its client has gone
	<-r.Context().Done()
}

func retryLater(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "3600")
	w.WriteHeader(http.StatusTooManyRequests)
}

// sharedReceiver is one origin. Its path /stranger has the given handler, and every other path answers 200.
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

// TestOnePathStopsNoOtherOfItsOrigin, with and without tenants, whatever that path does, and although its messages were due
// first.
func TestOnePathStopsNoOtherOfItsOrigin(t *testing.T) {
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
				c.OpenFor, c.OpenForMax = time.Hour, time.Hour // a message that waits for a circuit breaker makes the test fail
				r.run(c)
				for range 30 { // more messages, written while the stranger's are sent
					time.Sleep(5 * time.Millisecond)
					honest = append(honest, write("/honest", "honest"))
				}
				r.await("all honest messages are delivered", func() bool { return len(to.requests()) >= len(honest) })
				for _, id := range honest {
					if d := r.awaitState(id, outbox.StateDelivered); d.Attempts != 1 {
						t.Errorf("an honest message had %d attempts, want 1", d.Attempts)
					}
				}
			})
		}
	}
}

// TestATenantsBacklogDelaysNoOtherTenantOfItsOrigin: each tenant has turns of its own, and a part of the window.
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
		t.Error("the whole backlog was delivered before the other tenant's messages; want some of it still due")
	}
}

func TestTheTenantsOfAnOriginTogetherHaveOneWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var atOnce maximum
	to := newReceiver(t, func(http.ResponseWriter, request) {
		atOnce.begin()
		time.Sleep(2 * time.Millisecond) // a receiver's work, so that requests overlap
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
		t.Errorf("%d requests were in flight at once, want 2 to 6", n)
	}
}
