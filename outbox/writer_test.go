package outbox_test

import (
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func TestACommittedMessageIsDue(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	m := fixture.Message("run")
	m.Outcome.Headers = map[string]string{"k": "v"}
	id := fixture.Write(t, db, m)
	d := fixture.Show(t, db, id)
	if d.State != outbox.StatePending || d.RunID != "run" || d.Status != outbox.Succeeded || d.URL != m.URL ||
		d.Endpoint != "https://receiver.example" || string(d.Result) != `{"ok":true}` || d.Error != nil ||
		d.Headers["k"] != "v" || d.FinalStep != 2 || d.Options != nil || d.Attempts != 0 || d.NextAttemptAt == nil {
		t.Errorf("it is %+v", d)
	}
	if fixture.Count(t, db, "due") != 1 || fixture.Count(t, db, "dead") != 0 {
		t.Errorf("%d due, %d dead", fixture.Count(t, db, "due"), fixture.Count(t, db, "dead"))
	}
}

func TestARolledBackMessageIsNowhere(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w := fixture.Writer(t, db)
	tx := fixture.Begin(t, db.Pool)
	_, err := w.Insert(t.Context(), tx, fixture.Message("run"))
	must(t, err)
	invalid := fixture.Message("other")
	invalid.URL = "relative"
	_, err = w.Insert(t.Context(), tx, invalid)
	must(t, err)
	must(t, tx.Rollback(t.Context()))
	if left := fixture.Rows(t, db); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

func TestAProgrammersFaultWritesNothingAndLeavesTheTransactionUsable(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w := fixture.Writer(t, db)
	tx := fixture.Begin(t, db.Pool)
	for name, m := range map[string]outbox.Message{
		"no run id":          {Outcome: outbox.RunOutcome{Status: outbox.Failed}, URL: "https://a"},
		"no status":          {Outcome: outbox.RunOutcome{RunID: "r"}, URL: "https://a"},
		"a negative timeout": {Outcome: testdb.Outcome("r", ""), URL: "https://a", Options: outbox.Options{Timeout: -1}},
	} {
		id, err := w.Insert(t.Context(), tx, m)
		if !errors.Is(err, outbox.ErrInvalidOutcome) || id != (outbox.ID{}) {
			t.Errorf("%s: Insert returns %s, %v", name, id, err)
		}
		var batch pgx.Batch
		if id, err := w.Queue(&batch, m); !errors.Is(err, outbox.ErrInvalidOutcome) || id != (outbox.ID{}) || batch.Len() != 0 {
			t.Errorf("%s: Queue returns %s, %v, and queued %d", name, id, err, batch.Len())
		}
	}
	_, err := w.Insert(t.Context(), tx, fixture.Message("run"))
	must(t, err)
	must(t, tx.Commit(t.Context()))
	if n := fixture.Count(t, db, "message"); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

func TestTheDatabasesErrorsAreTheCallers(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t) // not migrated
	id, err := fixture.Writer(t, db).Insert(t.Context(), fixture.Begin(t, db.Pool), fixture.Message("run"))
	if err == nil || errors.Is(err, outbox.ErrInvalidOutcome) || !strings.Contains(err.Error(), "insert message") ||
		!strings.Contains(err.Error(), "schema "+db.Schema+" lacks") || !strings.Contains(err.Error(), "outbox-worker migrate up") || id != (outbox.ID{}) {
		t.Errorf("Insert returns %s, %v", id, err)
	}
}

func TestAWritersConfigurationIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := outbox.NewWriter(outbox.Config{Schema: "No", ResultBytesMax: -1})
	if !errors.Is(err, outbox.ErrInvalidSchema) || !strings.Contains(err.Error(), "ResultBytesMax is -1") {
		t.Errorf("NewWriter returns %v", err)
	}
	if _, err = outbox.NewWriter(outbox.Config{ResultBytesMax: outbox.ResultBytesKept + 1}); err == nil {
		t.Error("a limit over what is kept is accepted")
	}
	for _, c := range []outbox.Config{{}, {ResultBytesMax: 1}, {ResultBytesMax: outbox.ResultBytesKept}, {Schema: "_x1"}} {
		if _, err := outbox.NewWriter(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// An outcome written outside a transaction would be atomic with nothing, so it must not compile.
func TestOnlyTransactionsAreTransactions(t *testing.T) {
	t.Parallel()
	tx := reflect.TypeFor[outbox.Tx]()
	for _, not := range []reflect.Type{
		reflect.TypeFor[*pgxpool.Pool](), reflect.TypeFor[*pgxpool.Conn](), reflect.TypeFor[*pgx.Conn](),
		reflect.TypeFor[*sql.DB](), reflect.TypeFor[*sql.Conn](), reflect.TypeFor[*sql.Tx](),
	} {
		if not.Implements(tx) {
			t.Errorf("%v can be used as a transaction", not)
		}
	}
	for _, yes := range []reflect.Type{reflect.TypeFor[pgx.Tx](), reflect.TypeFor[*pgxpool.Tx]()} {
		if !yes.Implements(tx) {
			t.Errorf("%v cannot be used as a transaction", yes)
		}
	}
}

func TestAnSQLTransactionEndsAsOneOfPgxDoes(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	pgxDB, pqDB := stdlib.OpenDBFromPool(db.Pool), openPQ(t, db)
	for name, conn := range map[string]*sql.DB{"pgx": pgxDB, "lib/pq": pqDB} {
		raw, err := conn.BeginTx(t.Context(), nil)
		must(t, err)
		tx := outbox.SQLTx(raw)
		_, err = fixture.Writer(t, db).Insert(t.Context(), tx, fixture.Message(name))
		must(t, err)
		must(t, tx.Rollback(t.Context()))
		for what, err := range map[string]error{"Commit": tx.Commit(t.Context()), "Rollback": tx.Rollback(t.Context())} {
			if !errors.Is(err, pgx.ErrTxClosed) {
				t.Errorf("%s: %s after the end returns %v", name, what, err)
			}
		}
		must(t, conn.Close())
	}
	if left := fixture.Rows(t, db); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}
