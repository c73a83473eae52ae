package outbox_test

import (
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestACopyToOneOfSeveralURLsIsTheSameRowAsAMessageOfItsOwn, whatever the driver, the text and the client's encoding.
func TestACopyToOneOfSeveralURLsIsTheSameRowAsAMessageOfItsOwn(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	writePgx(t, reference, texts())
	want := rows(t, reference)
	ways := map[string]func(*testing.T, *testdb.DB) (tx outbox.Tx, done func()){}
	for name, open := range map[string]func(*testing.T, *testdb.DB) *sql.DB{
		"lib/pq": openPQ, "database/sql": func(_ *testing.T, db *testdb.DB) *sql.DB { return stdlib.OpenDBFromPool(db.Pool) },
	} {
		ways[name] = func(t *testing.T, db *testdb.DB) (outbox.Tx, func()) {
			conn := open(t, db)
			tx, err := conn.BeginTx(t.Context(), nil)
			must(t, err)
			return outbox.SQLTx(tx), func() { _ = conn.Close() }
		}
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		ways[mode.String()] = func(t *testing.T, db *testdb.DB) (outbox.Tx, func()) {
			return begin(t, db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })), func() {}
		}
	}
	for name, open := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			tx, done := open(t, db)
			defer done()
			for _, m := range texts() {
				must(t, newWriter(t, db).InsertEach(t.Context(), tx, m, []outbox.Destination{{ID: m.ID, URL: m.URL, DedupeKey: m.DedupeKey}}))
			}
			must(t, tx.Commit(t.Context()))
			mustBeSame(t, want, rows(t, db))
		})
	}
}

func TestNothingIsWrittenForNoDestination(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	must(t, newWriter(t, db).InsertEach(t.Context(), begin(t, db.Pool), message("run"), nil))
	receipts, err := newWriter(t, db).WriteEach(t.Context(), begin(t, db.Pool), message("run"), nil)
	if err != nil || len(receipts) != 0 {
		t.Errorf("%v, %v", receipts, err)
	}
}
