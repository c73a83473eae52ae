package outbox_test

import (
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// way is a way to write messages: each of them commits them all in one transaction.
type way struct {
	name  string
	write func(*testing.T, *testdb.DB, []outbox.Message)
}

func ways() []way {
	all := []way{
		{"database/sql with pgx", func(t *testing.T, db *testdb.DB, messages []outbox.Message) {
			conn := stdlib.OpenDBFromPool(db.Pool)
			defer func() { must(t, conn.Close()) }()
			writeSQL(t, db, conn, messages)
		}},
		{"database/sql with lib/pq", func(t *testing.T, db *testdb.DB, messages []outbox.Message) {
			conn := openPQ(t, db)
			defer func() { must(t, conn.Close()) }()
			writeSQL(t, db, conn, messages)
		}},
		{"batch", writeBatch},
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		for name, write := range map[string]func(*testing.T, *testdb.DB, []outbox.Message){"": fixture.WriteAll, ", batch": writeBatch} {
			all = append(all, way{"pgx " + mode.String() + name, func(t *testing.T, db *testdb.DB, messages []outbox.Message) {
				pool := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
				write(t, &testdb.DB{Pool: pool, Name: db.Name, Schema: db.Schema, URL: db.URL}, messages)
			}})
		}
	}
	return all
}

func writeBatch(t *testing.T, db *testdb.DB, messages []outbox.Message) {
	t.Helper()
	w := fixture.Writer(t, db)
	tx := fixture.Begin(t, db.Pool)
	var batch pgx.Batch
	batch.Queue("SELECT 'the acknowledgement'")
	for _, m := range messages {
		id, err := w.Queue(&batch, m)
		must(t, err)
		if id != m.ID {
			t.Errorf("Queue returns %s for %s", id, m.ID)
		}
	}
	must(t, tx.SendBatch(t.Context(), &batch).Close())
	must(t, tx.Commit(t.Context()))
}

func writeSQL(t *testing.T, db *testdb.DB, conn *sql.DB, messages []outbox.Message) {
	t.Helper()
	w := fixture.Writer(t, db)
	tx, err := conn.BeginTx(t.Context(), nil)
	must(t, err)
	wrapped := outbox.SQLTx(tx)
	for _, m := range messages {
		id, err := w.Insert(t.Context(), wrapped, m)
		must(t, err)
		if id != m.ID {
			t.Errorf("Insert returns %s for %s", id, m.ID)
		}
	}
	must(t, wrapped.Commit(t.Context()))
}

func TestEveryDriverAndProtocolWritesTheSameRows(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	fixture.WriteAll(t, reference, fixture.Samples())
	want := fixture.Rows(t, reference)
	if n := 2 * len(fixture.Samples()); len(want) != n {
		t.Fatalf("%d rows, want a message and its due or dead row of each: %q", len(want), want)
	}
	for _, way := range ways() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			way.write(t, db, fixture.Samples())
			fixture.SameRows(t, want, fixture.Rows(t, db))
		})
	}
}
