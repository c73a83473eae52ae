package hook_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestMain(m *testing.M) { testdb.Main(m, testdb.Child{Name: "writers", Run: runWriters}) }

const receiver = "https://receiver.example/hook"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func one[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func execute(t *testing.T, db *testdb.DB, format string, args ...any) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), fmt.Sprintf(format, args...))
	must(t, err)
}

func newHook(t *testing.T, db *testdb.DB, c hook.WebhookConfig) *hook.WebhookTerminalHook {
	t.Helper()
	c.Schema = db.Schema
	h, err := hook.NewWebhook(c)
	must(t, err)
	return h
}

// end ends a run in a transaction of its own, and returns the run's messages.
func end(t *testing.T, db *testdb.DB, h hook.TerminalHook, o outbox.RunOutcome) []operator.MessageDetail {
	t.Helper()
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error { return h.OnTermination(t.Context(), tx, o) }))
	return messagesOf(t, db, o.RunID)
}

func messagesOf(t *testing.T, db *testdb.DB, runID string) (all []operator.MessageDetail) {
	t.Helper()
	s, err := operator.NewStore(db.Pool, db.Schema)
	must(t, err)
	list, err := s.List(t.Context(), operator.Filter{RunID: runID})
	must(t, err)
	for _, m := range list {
		d, err := s.Show(t.Context(), m.ID)
		must(t, err)
		all = append(all, d)
	}
	return all
}

// endOne ends a run that must leave exactly one message.
func endOne(t *testing.T, db *testdb.DB, h hook.TerminalHook, o outbox.RunOutcome) operator.MessageDetail {
	t.Helper()
	all := end(t, db, h, o)
	if len(all) != 1 {
		t.Fatalf("the run %q left %d messages, want 1", o.RunID, len(all))
	}
	return all[0]
}

func count(t *testing.T, db *testdb.DB, table string) int {
	t.Helper()
	return one[int](t, db.Pool, "SELECT count(*) FROM "+db.Schema+"."+table)
}

func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}
