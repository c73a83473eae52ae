package outbox_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
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
		for name, write := range map[string]func(*testing.T, *testdb.DB, []outbox.Message){"": writePgx, ", batch": writeBatch} {
			all = append(all, way{"pgx " + mode.String() + name, func(t *testing.T, db *testdb.DB, messages []outbox.Message) {
				pool := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
				write(t, &testdb.DB{Pool: pool, Schema: db.Schema, URL: db.URL}, messages)
			}})
		}
	}
	return all
}

func writePgx(t *testing.T, db *testdb.DB, messages []outbox.Message) {
	t.Helper()
	w := newWriter(t, db)
	tx := begin(t, db.Pool)
	for _, m := range messages {
		id, err := w.Insert(t.Context(), tx, m)
		must(t, err)
		if id != m.ID {
			t.Errorf("Insert returns %s for %s", id, m.ID)
		}
	}
	must(t, tx.Commit(t.Context()))
}

func writeBatch(t *testing.T, db *testdb.DB, messages []outbox.Message) {
	t.Helper()
	w := newWriter(t, db)
	tx := begin(t, db.Pool)
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
	w := newWriter(t, db)
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

// samples are messages of every kind, with ids of their own so that rows can be compared.
func samples() []outbox.Message {
	samples := []outbox.Message{
		{Outcome: outbox.RunOutcome{RunID: "bytes", Status: outbox.Succeeded, Result: []byte("\x00\x01\xff'\\ü\n")}, URL: "https://a.example/x?y=z#f"},
		{Outcome: outbox.RunOutcome{RunID: "none", Status: outbox.Succeeded, FinalStep: 1<<32 - 1}, URL: "https://[::1]:8443/"},
		{Outcome: outbox.RunOutcome{RunID: `quotes ' " \ $1 %s ?`, Status: outbox.Failed, Error: `no 'luck' "ü" 🎉 \n $2`}, URL: "http://b.example"},
		{Outcome: outbox.RunOutcome{RunID: "from outside", Status: outbox.Cancelled}, URL: "https://a.example"},
		{
			Outcome: outbox.RunOutcome{
				RunID: "NUL \x00 and \xff\xfe", Status: outbox.Failed, Error: "\x00\xff",
				Headers: map[string]string{"k\x00": "v\x00", "\xff": "\xfe", "X-Tenant": `a "quoted" <one> \u0000`, "left": "out"},
			},
			URL: "https://a.example",
			Options: outbox.Options{
				Timeout: 1500 * time.Millisecond, Forward: []string{"X-Tenant", "k\x00", "\xff", "not there"},
			},
			DedupeKey: "key \x00",
		},
		{Outcome: outbox.RunOutcome{RunID: "keyed", Status: outbox.Succeeded, Result: []byte{}}, URL: "https://a.example", DedupeKey: "key"},
		{Outcome: outbox.RunOutcome{RunID: "dead", Status: outbox.Succeeded, Result: []byte("r")}, URL: "relative \x00 \xff"},
		{Outcome: outbox.RunOutcome{RunID: "dead and keyed", Status: outbox.Failed}, URL: "", DedupeKey: strings.Repeat("k", 600)},
	}
	for i := range samples {
		samples[i].ID = outbox.ID{15: byte(i + 1), 6: 0x70, 8: 0x80}
	}
	return samples
}

// rows returns all that was written as text, the time of writing apart.
func rows(t *testing.T, db *testdb.DB) []string {
	t.Helper()
	result, err := db.Pool.Query(t.Context(), strings.ReplaceAll(
		`SELECT 'message ' || (to_jsonb(m) - 'created_at')::text FROM outbox.message m
UNION ALL SELECT 'due ' || (to_jsonb(u) - 'due_at')::text FROM outbox.due u
UNION ALL SELECT 'dead ' || (to_jsonb(x) - 'at')::text FROM outbox.dead x ORDER BY 1`, "outbox.", db.Schema+"."))
	must(t, err)
	list, err := pgx.CollectRows(result, pgx.RowTo[string])
	must(t, err)
	return list
}

func TestEveryDriverAndProtocolWritesTheSameRows(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	writePgx(t, reference, samples())
	want := rows(t, reference)
	if n := 2 * len(samples()); len(want) != n {
		t.Fatalf("%d rows, want a message and its due or dead row of each: %q", len(want), want)
	}
	for _, way := range ways() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			way.write(t, db, samples())
			mustBeSame(t, want, rows(t, db))
		})
	}
}

func mustBeSame(t *testing.T, want, got []string) {
	t.Helper()
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("missing: %s", row)
		}
	}
	for _, row := range got {
		if !slices.Contains(want, row) {
			t.Errorf("too many: %s", row)
		}
	}
}
