package hook_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// receiptsOf ends a run in a transaction of its own, and returns the receipts.
func receiptsOf(t *testing.T, db *testdb.DB, h *hook.WebhookTerminalHook, o outbox.RunOutcome) (receipts []outbox.Receipt) {
	t.Helper()
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
		receipts, err = h.Write(t.Context(), tx, o)
		return err
	}))
	return receipts
}

func TestAReceiptSaysWhatTheHookDid(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{DedupeKey: func(o outbox.RunOutcome) string { return o.Headers["key"] }})
	written := receiptsOf(t, db, h, outcomeWith("run", map[string]string{"key": "schlüssel"}))
	if len(written) != 1 || written[0].Fate != outbox.FateWritten || written[0].URL != receiver || written[0].ID != messagesOf(t, db, "run")[0].ID {
		t.Errorf("the receipts are %+v; want one of a written message", written)
	}
	again := receiptsOf(t, db, h, outcomeWith("again", map[string]string{"key": "schlüssel"}))
	if len(again) != 1 || again[0].Fate != outbox.FateDuplicate || again[0].ID != written[0].ID {
		t.Errorf("the second time the receipts are %+v; want a duplicate of %s", again, written[0].ID)
	}
	dead := receiptsOf(t, db, h, testdb.Outcome("dead", "relative"))
	if len(dead) != 1 || dead[0].Fate != outbox.FateDead || !strings.Contains(dead[0].Reason, "url: relative") {
		t.Errorf("for a relative URL the receipts are %+v; want one of a dead message", dead)
	}
	for headers, want := range map[string]string{
		"":             `no header "callback_url"`,
		"Callback-URL": `one that is called "Callback-URL"`,
		"callback_url": `its header "callback_url" is empty`,
	} {
		o := testdb.Outcome("nobody", "")
		o.Headers = map[string]string{headers: ""}
		none := receiptsOf(t, db, h, o)
		if len(none) != 1 || none[0].Fate != outbox.FateNoDestination || !strings.Contains(none[0].Reason, want) {
			t.Errorf("%q: the receipts are %+v; want one without a destination that says %q", headers, none, want)
		}
	}
	if n := count(t, db, "message"); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestAReceiptNamesTheMessageOfADuplicateThroughDatabaseSQLToo(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{DedupeKey: func(o outbox.RunOutcome) string { return o.RunID }})
	first := receiptsOf(t, db, h, testdb.Outcome("run", receiver))
	conn := stdlib.OpenDBFromPool(db.Pool)
	defer func() { must(t, conn.Close()) }()
	pq, err := sql.Open("postgres", db.URL)
	must(t, err)
	defer func() { must(t, pq.Close()) }()
	for name, conn := range map[string]*sql.DB{"pgx": conn, "lib/pq": pq} {
		tx, err := conn.BeginTx(t.Context(), nil)
		must(t, err)
		for way, tx := range map[string]outbox.Tx{"SQLTx": outbox.SQLTx(tx), "ExecTx": outbox.ExecTx(tx), "ExecTx without QueryRow": outbox.ExecTx(queries{tx, tx})} {
			got, err := h.Write(t.Context(), tx, testdb.Outcome("run", receiver))
			if err != nil || len(got) != 1 || got[0].Fate != outbox.FateDuplicate || got[0].ID != first[0].ID {
				t.Errorf("%s, %s: the receipts are %+v, %v; want a duplicate of %s", name, way, got, err, first[0].ID)
			}
		}
		only := outbox.ExecTx(executes{tx})
		if got, err := h.Write(t.Context(), only, testdb.Outcome("run", receiver)); err != nil || got[0].Fate != outbox.FateDuplicate || got[0].ID != (outbox.ID{}) {
			t.Errorf("%s, Exec only: the receipts are %+v, %v; want a duplicate without an id", name, got, err)
		}
		must(t, tx.Rollback())
	}
}

// queries and executes are transactions with fewer methods than a *sql.Tx, as some libraries have.
type (
	queries struct {
		outbox.ExecContexter
		querier
	}
	executes struct{ outbox.ExecContexter }
)

func TestWhenAURLIsRequiredARunWithoutOneLeavesADeadMessage(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{RequireURL: true})
	o := testdb.Outcome("run", "")
	o.Headers = map[string]string{"Callback_URL": receiver}
	d := endOne(t, db, h, o)
	if d.State != outbox.StateDead || d.DeadError == nil || !strings.Contains(*d.DeadError, `"Callback_URL"`) {
		t.Errorf("the message is %s, with the error %v; want it dead, and the header named", d.State, d.DeadError)
	}
	if err := h.CheckHeaders(o.Headers); err == nil || !strings.Contains(err.Error(), `"Callback_URL"`) {
		t.Errorf("CheckHeaders returns %v; want an error that names the header", err)
	}
	must(t, h.CheckHeaders(map[string]string{"callback_url": receiver}))
}

func TestMistakesAreErrorsThatSayWhatToDo(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{})
	conn := stdlib.OpenDBFromPool(db.Pool)
	defer func() { must(t, conn.Close()) }()
	ended := begin(t, db.Pool)
	must(t, ended.Rollback(t.Context()))
	endedSQL, err := conn.BeginTx(t.Context(), nil)
	must(t, err)
	must(t, endedSQL.Rollback())
	for name, c := range map[string]struct {
		tx   outbox.Tx
		want string
	}{
		"nil":                       {nil, "it is nil"},
		"a nil pointer":             {(*pgxpool.Tx)(nil), "it is nil"},
		"SQLTx(nil)":                {outbox.SQLTx(nil), "SQLTx was given nil"},
		"ExecTx(nil)":               {outbox.ExecTx(nil), "ExecTx was given nil"},
		"ExecTx of a nil pointer":   {outbox.ExecTx((*sql.Tx)(nil)), "ExecTx was given nil"},
		"ExecTx of a pool":          {outbox.ExecTx(conn), "*sql.DB, which is no transaction"},
		"one that has ended":        {ended, "it has ended"},
		"one of SQL that has ended": {outbox.SQLTx(endedSQL), "it has ended"},
		"of an ORM, has ended":      {outbox.ExecTx(endedSQL), "it has ended"},
	} {
		several := newHook(t, db, hook.WebhookConfig{URLs: func(outbox.RunOutcome) []string { return []string{receiver, receiver + "/2"} }})
		for _, h := range []*hook.WebhookTerminalHook{h, several} {
			err := h.OnTermination(t.Context(), c.tx, testdb.Outcome("run", receiver))
			if !errors.Is(err, outbox.ErrTransaction) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: OnTermination returns %v; want ErrTransaction that says %q", name, err, c.want)
			}
			if _, err := h.Write(t.Context(), c.tx, testdb.Outcome("run", receiver)); !errors.Is(err, outbox.ErrTransaction) {
				t.Errorf("%s: Write returns %v, want ErrTransaction", name, err)
			}
		}
	}
	var none *hook.WebhookTerminalHook
	for name, h := range map[string]*hook.WebhookTerminalHook{"nil": none, "zero": {}} {
		if err := h.OnTermination(t.Context(), begin(t, db.Pool), testdb.Outcome("run", receiver)); err == nil || !strings.Contains(err.Error(), "NewWebhook") {
			t.Errorf("a hook that is %s: OnTermination returns %v; want an error that names NewWebhook", name, err)
		}
		if err := h.CheckHeaders(nil); err == nil {
			t.Errorf("a hook that is %s: CheckHeaders returns nil; want an error", name)
		}
	}
	if _, err := h.Queue(t.Context(), nil, testdb.Outcome("run", receiver)); err == nil || !strings.Contains(err.Error(), "the batch is nil") {
		t.Errorf("with a nil batch, Queue returns %v; want an error that says so", err)
	}
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
