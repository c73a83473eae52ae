package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestMain(m *testing.M) { testdb.Main(m) }

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

func openPQ(t *testing.T, db *testdb.DB) *sql.DB {
	t.Helper()
	conn, err := sql.Open("postgres", db.URL)
	must(t, err)
	return conn
}

func newWriter(t *testing.T, db *testdb.DB) *outbox.Writer {
	t.Helper()
	w, err := outbox.NewWriter(outbox.Config{Schema: db.Schema})
	must(t, err)
	return w
}

func newStore(t *testing.T, db *testdb.DB) *operator.Store {
	t.Helper()
	s, err := operator.NewStore(db.Pool, db.Schema)
	must(t, err)
	return s
}

// message is one that can be delivered.
func message(runID string) outbox.Message {
	return outbox.Message{Outcome: testdb.Outcome(runID, ""), URL: "https://receiver.example/hook"}
}

// write commits a message in a transaction of its own.
func write(t *testing.T, db *testdb.DB, m outbox.Message) outbox.ID {
	t.Helper()
	var id outbox.ID
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
		id, err = newWriter(t, db).Insert(t.Context(), tx, m)
		return err
	}))
	return id
}

func count(t *testing.T, db *testdb.DB, table string) int {
	t.Helper()
	return one[int](t, db.Pool, "SELECT count(*) FROM "+db.Schema+"."+table)
}

func show(t *testing.T, db *testdb.DB, id outbox.ID) operator.MessageDetail {
	t.Helper()
	d, err := newStore(t, db).Show(t.Context(), id)
	must(t, err)
	return d
}

func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}
