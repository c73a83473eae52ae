package worker

import (
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
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

// TestNewReturnsNoWorkerBesideAnError: there is nothing to run by mistake, and nothing to end.
func TestNewReturnsNoWorkerBesideAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, change := range map[string]func(*Config){
		"a configuration that is at fault": func(c *Config) { c.Lease = time.Second },
		"a file that is not there":         func(c *Config) { c.CAFile = "/nowhere/ca.pem" },
		"certificates that are not to read": func(c *Config) {
			c.ClientCertFile, c.ClientKeyFile, c.ClientCertOrigins = "/nowhere/c.pem", "/nowhere/k.pem", []string{"https://a.example"}
		},
	} {
		c := r.config()
		change(&c)
		if w, err := New(r.Pool, c); w != nil || err == nil {
			t.Errorf("%s: %v, %v", name, w, err)
		}
	}
}

// TestAWorkerOpensNoMoreConnectionsThanItsPoolAllows, its listener included.
func TestAWorkerOpensNoMoreConnectionsThanItsPoolAllows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	r.due(to.URL, 500, 0)
	pool := r.NewPool(t, func(c *pgxpool.Config) {
		c.MaxConns = ConnsMin
		c.ConnConfig.RuntimeParams["application_name"] = r.Schema + "_worker"
	})
	r.runOn(pool, r.config())
	most := 0
	open := func() int {
		n := r.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, r.Schema+"_worker")
		most = max(most, n)
		return n
	}
	r.await("everything is delivered", func() bool { return open() >= 0 && r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	r.await("it listens, and holds the lock for its name", func() bool {
		open()
		return r.count(`SELECT count(*) FROM outbox.worker`) == 1
	})
	if most > ConnsMin {
		t.Errorf("%d connections were open, the pool allows %d", most, ConnsMin)
	}
}
