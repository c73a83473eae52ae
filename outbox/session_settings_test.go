package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// foreignSettings are what a caller's session may be set to, in its transaction, and whether a driver may refuse to write
// under it.
var foreignSettings = map[string]struct {
	sql       string
	refusable bool
}{
	"bytea_output":                {"SET LOCAL bytea_output = 'escape'", false},
	"DateStyle":                   {"SET LOCAL DateStyle = 'German, DMY'", false},
	"IntervalStyle":               {"SET LOCAL IntervalStyle = 'sql_standard'", false},
	"TimeZone":                    {"SET LOCAL TimeZone = 'Asia/Kathmandu'", false},
	"client_encoding LATIN1":      {"SET LOCAL client_encoding = 'LATIN1'", true},
	"client_encoding SJIS":        {"SET LOCAL client_encoding = 'SJIS'", true},
	"client_encoding SQL_ASCII":   {"SET LOCAL client_encoding = 'SQL_ASCII'", true},
	"serializable":                {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", false},
	"repeatable read":             {"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", false},
	"standard_conforming_strings": {"SET LOCAL standard_conforming_strings = off", true},
	"backslash_quote":             {"SET LOCAL backslash_quote = off", false},
	"force_generic_plan":          {"SET LOCAL plan_cache_mode = 'force_generic_plan'", false},
	"force_custom_plan":           {"SET LOCAL plan_cache_mode = 'force_custom_plan'", false},
	"no search_path":              {"SET LOCAL search_path = ''", false},
	"array_nulls":                 {"SET LOCAL array_nulls = off", false},
	"transform_null_equals":       {"SET LOCAL transform_null_equals = on", false},
	"extra_float_digits":          {"SET LOCAL extra_float_digits = -15", false},
	"xmlbinary, lc_messages":      {"SET LOCAL xmlbinary = 'hex'; SET LOCAL lc_messages = 'C'", false},
}

// texts are samples, and text that LATIN1 can and cannot hold in every column that holds text.
func texts() []outbox.Message {
	latin, beyond := "é ÿ \u00a0", "→ 日本語 🎉 \u00e9\u0301"
	all := append(fixture.Samples(),
		outbox.Message{
			Outcome: outbox.RunOutcome{RunID: latin, Status: outbox.Failed, Error: latin, Headers: map[string]string{latin: latin}},
			URL:     "https://bücher.example/" + latin[:2], DedupeKey: latin,
			Options: outbox.Options{Forward: []string{latin}, Headers: map[string]string{"X-A": latin}},
		},
		outbox.Message{
			Outcome: outbox.RunOutcome{RunID: beyond, Status: outbox.Cancelled, Error: beyond, Headers: map[string]string{beyond: beyond}},
			URL:     "https://日本.example/🎉", DedupeKey: beyond,
			Options: outbox.Options{Forward: []string{beyond}},
		},
		outbox.Message{Outcome: outbox.RunOutcome{RunID: beyond + "dead", Status: outbox.Succeeded, Result: []byte(beyond)}, URL: "é://🎉", DedupeKey: latin + "dead"},
	)
	for i := range all {
		all[i].ID = outbox.ID{15: byte(i + 1), 6: 0x70, 8: 0x80}
	}
	return all
}

// writeUnder writes the messages in one transaction after a statement that sets it, and returns the first error.
type writeUnder func(t *testing.T, db *testdb.DB, set string, messages []outbox.Message) error

func insertAll(t *testing.T, db *testdb.DB, tx outbox.Tx, set string, messages []outbox.Message) error {
	t.Helper()
	for _, each := range strings.Split(set, "; ") {
		if _, err := tx.Exec(t.Context(), each); err != nil {
			return err
		}
	}
	w := fixture.Writer(t, db)
	for _, m := range messages {
		if _, err := w.Insert(t.Context(), tx, m); err != nil {
			return err
		}
	}
	return tx.Commit(t.Context())
}

func throughSQL(open func(*testing.T, *testdb.DB) *sql.DB) writeUnder {
	return func(t *testing.T, db *testdb.DB, set string, messages []outbox.Message) error {
		conn := open(t, db)
		defer func() { _ = conn.Close() }()
		tx, err := conn.BeginTx(t.Context(), nil)
		must(t, err)
		defer func() { _ = tx.Rollback() }()
		return insertAll(t, db, outbox.SQLTx(tx), set, messages)
	}
}

func waysUnder() map[string]writeUnder {
	all := map[string]writeUnder{
		"database/sql with pgx":    throughSQL(func(t *testing.T, db *testdb.DB) *sql.DB { return stdlib.OpenDBFromPool(db.Pool) }),
		"database/sql with lib/pq": throughSQL(openPQ),
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		pool := func(t *testing.T, db *testdb.DB) *pgxpool.Pool {
			return db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
		}
		all["pgx "+mode.String()] = func(t *testing.T, db *testdb.DB, set string, messages []outbox.Message) error {
			tx := fixture.Begin(t, pool(t, db))
			defer func() { _ = tx.Rollback(context.Background()) }()
			return insertAll(t, db, tx, set, messages)
		}
		all["pgx batch "+mode.String()] = func(t *testing.T, db *testdb.DB, set string, messages []outbox.Message) error {
			tx := fixture.Begin(t, pool(t, db))
			defer func() { _ = tx.Rollback(context.Background()) }()
			if _, err := tx.Exec(t.Context(), set); err != nil {
				return err
			}
			var batch pgx.Batch
			w := fixture.Writer(t, db)
			for _, m := range messages {
				_, err := w.Queue(&batch, m)
				must(t, err)
			}
			if err := tx.SendBatch(t.Context(), &batch).Close(); err != nil {
				return err
			}
			return tx.Commit(t.Context())
		}
	}
	return all
}

// The row is the same byte for byte, or the caller gets an error and nothing is written.
func TestNoSettingOfTheCallersSessionChangesWhatIsWritten(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	fixture.WriteAll(t, reference, texts())
	want := fixture.Rows(t, reference)
	if n := 2 * len(texts()); len(want) != n {
		t.Fatalf("%d rows, want %d: %q", len(want), n, want)
	}
	for name, write := range waysUnder() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			for setting, s := range foreignSettings {
				fixture.Execute(t, db, "TRUNCATE %[1]s.message, %[1]s.due, %[1]s.dead", db.Schema)
				err := write(t, db, s.sql, texts())
				got := fixture.Rows(t, db)
				switch {
				case err == nil:
					if !slices.Equal(got, want) {
						t.Errorf("%s:", setting)
						fixture.SameRows(t, want, got)
					}
				case !s.refusable:
					t.Errorf("%s: %v", setting, err)
				default:
					t.Logf("%s: refused: %v", setting, err)
					if len(got) > 0 {
						t.Errorf("%s: refused, but written: %q", setting, got)
					}
				}
			}
		})
	}
}

func TestATransactionThatCannotBeWrittenInIsTheCallersError(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w := fixture.Writer(t, db)
	m := fixture.Samples()[0]
	pq := openPQ(t, db)
	defer func() { must(t, pq.Close()) }()
	conns := map[string]func() outbox.Tx{
		"pgx": func() outbox.Tx { return fixture.Begin(t, db.Pool) },
		"lib/pq": func() outbox.Tx {
			tx, err := pq.BeginTx(t.Context(), nil)
			must(t, err)
			t.Cleanup(func() { _ = tx.Rollback() })
			return outbox.SQLTx(tx)
		},
	}
	for driver, open := range conns {
		for fault, spoil := range map[string]func(tx outbox.Tx){
			"read-only": func(tx outbox.Tx) {
				_, err := tx.Exec(t.Context(), "SET TRANSACTION READ ONLY")
				must(t, err)
			},
			"an earlier statement": func(tx outbox.Tx) {
				if _, err := tx.Exec(t.Context(), "SELECT 1/0"); err == nil {
					t.Error("a division by zero is no error")
				}
			},
			"it has ended": func(tx outbox.Tx) { must(t, tx.Rollback(t.Context())) },
		} {
			tx := open()
			spoil(tx)
			_, err := w.Insert(t.Context(), tx, m)
			if !errors.Is(err, outbox.ErrTransaction) || !strings.Contains(err.Error(), fault) {
				t.Errorf("%s, %s: %v", driver, fault, err)
			}
			_ = tx.Rollback(t.Context())
		}
	}
	if got := fixture.Rows(t, db); len(got) > 0 {
		t.Errorf("written: %q", got)
	}
}
