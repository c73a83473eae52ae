package outbox_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// TestACopyToOneOfSeveralURLsIsTheSameRowAsAMessageOfItsOwn, whatever the driver, the text and the client's encoding.
func TestACopyToOneOfSeveralURLsIsTheSameRowAsAMessageOfItsOwn(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	fixture.WriteAll(t, reference, texts())
	want := fixture.Rows(t, reference)
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
			return fixture.Begin(t, db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })), func() {}
		}
	}
	for name, open := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			tx, done := open(t, db)
			defer done()
			for _, m := range texts() {
				must(t, fixture.Writer(t, db).InsertEach(t.Context(), tx, m, []outbox.Destination{{ID: m.ID, URL: m.URL, DedupeKey: m.DedupeKey}}))
			}
			must(t, tx.Commit(t.Context()))
			fixture.SameRows(t, want, fixture.Rows(t, db))
		})
	}
}

func TestAsManyDestinationsAsTheLimitAreWrittenAndOneMoreIsRefused(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	to := make([]outbox.Destination, outbox.DestinationsMax+1)
	for i := range to {
		to[i].URL = fmt.Sprint("https://example.com/", i)
	}
	tx := fixture.Begin(t, db.Pool)
	if err := fixture.Writer(t, db).InsertEach(t.Context(), tx, fixture.Message("run"), to); !errors.Is(err, outbox.ErrInvalidOutcome) {
		t.Errorf("%d destinations: %v", len(to), err)
	}
	must(t, fixture.Writer(t, db).InsertEach(t.Context(), tx, fixture.Message("run"), to[1:]))
	must(t, tx.Commit(t.Context()))
	if n := fixture.One[int](t, db.Pool, "SELECT count(DISTINCT url) FROM "+db.Schema+".message"); n != outbox.DestinationsMax {
		t.Errorf("%d messages are written, want %d", n, outbox.DestinationsMax)
	}
}

func TestNothingIsWrittenForNoDestination(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	must(t, fixture.Writer(t, db).InsertEach(t.Context(), fixture.Begin(t, db.Pool), fixture.Message("run"), nil))
	receipts, err := fixture.Writer(t, db).WriteEach(t.Context(), fixture.Begin(t, db.Pool), fixture.Message("run"), nil)
	if err != nil || len(receipts) != 0 {
		t.Errorf("%v, %v", receipts, err)
	}
}
