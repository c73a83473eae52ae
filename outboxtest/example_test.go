package outboxtest_test

import (
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outboxtest"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// finishOrder stands for the code of the service: it ends a run in the service's transaction.
func finishOrder(t *testing.T, tx pgx.Tx, schema, callback string) outbox.RunOutcome {
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	outcome := outbox.RunOutcome{
		RunID: "order-4711", Status: outbox.Succeeded, Result: []byte(`{"shipped":true}`), Headers: map[string]string{"callback_url": callback},
	}
	if err := terminal.OnTermination(t.Context(), tx, outcome); err != nil {
		t.Fatal(err)
	}
	return outcome
}

// orderArrives is the test: name yours TestOrderArrives. The database of the pool is migrated; the schema is "" for the
// default one.
func orderArrives(t *testing.T, pool *pgxpool.Pool, schema string) {
	arrived := make(chan string, 1)
	callback := outboxtest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- r.Header.Get("Workflow-Run-Id")
	}))
	box := outboxtest.In(t, schema)

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outcome := finishOrder(t, tx, schema, callback)
	box.RequireWritten(tx, outcome) // in the transaction, still open
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	box.Drain(pool, worker.Config{}) // a real worker delivers what is due, to this machine only
	box.RequireDelivered(pool, outcome.RunID)
	if run := <-arrived; run != outcome.RunID {
		t.Errorf("the receiver got the run %s, want %s", run, outcome.RunID)
	}
}

// A test of a service checks that the outcome is written in the transaction that ends the run, and that it arrives.
func Example() {
	// go test -run TestOrderArrives
}
