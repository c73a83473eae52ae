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
		t.Errorf("the attempts are %+v, want one that delivered with 200", d.AttemptList)
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
			t.Errorf("a request has the webhook-id %s, want %s", got.id, id)
		}
	}
	if len(d.AttemptList) != 3 || d.Attempts != 3 {
		t.Errorf("the message has %d attempts, and the list %+v; want 3 in both", d.Attempts, d.AttemptList)
	}
}

// With an error, New returns nil: the caller cannot run the worker by mistake, and has nothing to close.
func TestNewReturnsNoWorkerWithAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, change := range map[string]func(*Config){
		"a faulty configuration": func(c *Config) { c.Lease = time.Second },
		"a missing file":         func(c *Config) { c.CAFile = "/nowhere/ca.pem" },
		"unreadable certificates": func(c *Config) {
			c.ClientCertFile, c.ClientKeyFile, c.ClientCertOrigins = "/nowhere/c.pem", "/nowhere/k.pem", []string{"https://a.example"}
		},
	} {
		c := r.config()
		change(&c)
		if w, err := New(r.Pool, c); w != nil || err == nil {
			t.Errorf("%s: New returns %v, %v; want nil and an error", name, w, err)
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
		c.ConnConfig.RuntimeParams["application_name"] = r.Name + "_worker"
	})
	r.runOn(pool, r.config())
	most := 0
	open := func() int {
		n := r.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, r.Name+"_worker")
		most = max(most, n)
		return n
	}
	r.await("everything is delivered", func() bool { return open() >= 0 && r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	r.await("the worker has its lock and its row", func() bool {
		open()
		return r.count(`SELECT count(*) FROM outbox.worker`) == 1
	})
	if most > ConnsMin {
		t.Errorf("%d connections were open, want %d at most", most, ConnsMin)
	}
}
