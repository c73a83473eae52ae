package outboxtest_test

import (
	"context"
	"database/sql"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outboxtest"
	"github.com/seed-abbacb8b/epilogue/worker"
)

func TestRequireDeliveredFailsUnlessAllMessagesWereDelivered(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: db.Schema})
	must(t, err)
	url := outboxtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Workflow-Run-Id") == "refused" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	box := outboxtest.In(t, db.Schema)
	box.RequireMessages(db.Pool, "run", 0)
	for _, id := range []string{"run", "refused"} {
		must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
			return terminal.OnTermination(t.Context(), tx, testdb.Outcome(id, url))
		}))
	}
	if why := failure(t, db.Schema, func(b *outboxtest.Box) { b.RequireDelivered(db.Pool, "run") }); !strings.Contains(why, "is pending after 0 attempts") {
		t.Errorf("before the drain, the failure is %q, want that the message is pending", why)
	}
	box.DrainURL(db.URL, worker.Config{})
	conn := stdlib.OpenDBFromPool(db.Pool)
	defer func() { must(t, conn.Close()) }()
	for _, from := range []outbox.RowQuerier{db.Pool, outbox.SQLDB(conn)} {
		if all := box.RequireDelivered(from, "run"); len(all) != 1 || all[0].URL != url {
			t.Errorf("got the messages %+v, want one to %s", all, url)
		}
		box.RequireMessages(from, "refused", 1)
		for want, f := range map[string]func(*outboxtest.Box){
			"is dead after 1 attempts; ":  func(b *outboxtest.Box) { b.RequireDelivered(from, "refused") },
			"has no message":              func(b *outboxtest.Box) { b.RequireDelivered(from, "nobody") },
			"has 1 messages that are com": func(b *outboxtest.Box) { b.RequireMessages(from, "run", 2) },
		} {
			if why := failure(t, db.Schema, f); !strings.Contains(why, want) {
				t.Errorf("the failure is %q, want %q in it", why, want)
			}
		}
	}
}

func TestRequireWrittenAcceptsATransactionOfDatabaseSQL(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: db.Schema})
	must(t, err)
	pgxDB := stdlib.OpenDBFromPool(db.Pool)
	defer func() { must(t, pgxDB.Close()) }()
	pq, err := sql.Open("postgres", db.URL)
	must(t, err)
	defer func() { must(t, pq.Close()) }()
	for name, conn := range map[string]*sql.DB{"pgx": pgxDB, "lib/pq": pq} {
		raw, err := conn.BeginTx(t.Context(), nil)
		must(t, err)
		tx, box := outbox.SQLTx(raw), outboxtest.In(t, db.Schema)
		box.RequireNotWritten(tx, name)
		must(t, terminal.OnTermination(t.Context(), tx, testdb.Outcome(name, receiver)))
		if m := box.RequireWritten(tx, testdb.Outcome(name, receiver)); m.URL != receiver || string(m.Result) != `{"ok":true}` {
			t.Errorf("%s: the message is %+v, want the URL %s and the result", name, m, receiver)
		}
		must(t, raw.Rollback())
	}
}

// TestAFailureReturnsTheConnection: a test that fails with an open transaction must not hang, because t.Cleanup(pool.Close)
// waits for every connection.
func TestAFailureReturnsTheConnection(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	pool := db.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	tx, err := pool.Begin(t.Context())
	must(t, err)
	if why := failure(t, db.Schema, func(b *outboxtest.Box) { b.RequireWritten(tx, testdb.Outcome("run", receiver)) }); why == "" {
		t.Error("RequireWritten does not fail, want a failure")
	}
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still acquired, want none", n)
		_ = tx.Rollback(context.Background())
	}
}
