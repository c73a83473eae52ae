package outboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outboxtest"
	"github.com/seed-abbacb8b/epilogue/worker"
)

func TestMain(m *testing.M) { testdb.Main(m) }

const receiver = "https://receiver.example/hook"

// silent is a test that fails inside another test.
type silent struct {
	testing.TB
	said string
}

type stopped struct{}

func (s *silent) Helper() {}
func (s *silent) Fatalf(format string, args ...any) {
	s.said = fmt.Sprintf(format, args...)
	panic(stopped{})
}

// failure runs f with a silent test, and returns the message of its failure.
func failure(t *testing.T, schema string, f func(*outboxtest.Box)) string {
	t.Helper()
	s := &silent{TB: t}
	func() {
		defer func() {
			if value := recover(); value != nil && value != any(stopped{}) {
				panic(value)
			}
		}()
		f(outboxtest.In(s, schema))
	}()
	return s.said
}

func TestRequireWrittenSeesOnlyTheMessagesOfItsTransaction(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: db.Schema})
	must(t, err)
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		return terminal.OnTermination(t.Context(), tx, testdb.Outcome("before", receiver))
	}))
	tx, err := db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	box := outboxtest.In(t, db.Schema)
	box.RequireNotWritten(tx, "before")
	box.RequireNotWritten(tx, "run")
	must(t, terminal.OnTermination(t.Context(), tx, testdb.Outcome("run", receiver)))
	must(t, pgx.BeginFunc(t.Context(), tx, func(tx pgx.Tx) error { // in a savepoint
		return terminal.OnTermination(t.Context(), tx, testdb.Outcome("nested", receiver))
	}))
	m := box.RequireWritten(tx, testdb.Outcome("run", receiver))
	if m.URL != receiver {
		t.Errorf("the message is %+v, want the URL %s", m, receiver)
	}
	box.RequireWritten(tx, outbox.RunOutcome{RunID: "nested", Status: outbox.Succeeded})
	for want, f := range map[string]func(*outboxtest.Box, outbox.Tx){
		"wrote no outcome of run": func(b *outboxtest.Box, tx outbox.Tx) { b.RequireWritten(tx, outbox.RunOutcome{RunID: "before"}) },
		"wrote an outcome of run": func(b *outboxtest.Box, tx outbox.Tx) { b.RequireNotWritten(tx, "run") },
		`Status is "succeeded", want "failed"; Error is "", want "x"`: func(b *outboxtest.Box, tx outbox.Tx) {
			b.RequireWritten(tx, outbox.RunOutcome{RunID: "run", Status: outbox.Failed, Error: "x"})
		},
		`FinalStep is "2", want "9"`: func(b *outboxtest.Box, tx outbox.Tx) {
			b.RequireWritten(tx, outbox.RunOutcome{RunID: "run", Status: outbox.Succeeded, FinalStep: 9})
		},
		`header tenant is "", want "blue"`: func(b *outboxtest.Box, tx outbox.Tx) {
			b.RequireWritten(tx, outbox.RunOutcome{RunID: "run", Status: outbox.Succeeded, Headers: map[string]string{"tenant": "blue"}})
		},
	} {
		savepoint, err := tx.Begin(t.Context()) // a failure rolls back
		must(t, err)
		if got := failure(t, db.Schema, func(b *outboxtest.Box) { f(b, savepoint) }); !strings.Contains(got, want) {
			t.Errorf("the failure is %q, want %q in it", got, want)
		}
	}
}

func TestADrainDeliversTheDueMessagesToTheHandler(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: db.Schema})
	must(t, err)
	var mu sync.Mutex
	got := map[string]string{}
	url := outboxtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got[r.Header.Get("Workflow-Run-Id")] = string(body)
		if r.Header.Get("Workflow-Run-Id") == "busy" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	box := outboxtest.In(t, db.Schema)
	box.Drain(db.Pool, worker.Config{}) // without a message
	for _, id := range []string{"one", "two", "busy"} {
		must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
			return terminal.OnTermination(t.Context(), tx, testdb.Outcome(id, url))
		}))
	}
	box.Drain(db.Pool, worker.Config{})
	if len(got) != 3 || got["one"] != `{"ok":true}` {
		t.Errorf("the handler got %v, want three messages", got)
	}
	var due int
	must(t, db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+db.Schema+".due").Scan(&due))
	if due != 1 {
		t.Errorf("%d messages are due again, want the one that was refused", due)
	}
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		return terminal.OnTermination(t.Context(), tx, testdb.Outcome("far", receiver))
	}))
	if why := failure(t, db.Schema, func(b *outboxtest.Box) { b.Drain(db.Pool, worker.Config{}) }); !strings.Contains(why, "receiver.example") {
		t.Errorf("with a message to another machine, the failure is %q, want its host in it", why)
	}
}

func TestARecorderRecordsAndRefuses(t *testing.T) {
	t.Parallel()
	var r outboxtest.Recorder
	must(t, r.OnTermination(t.Context(), nil, testdb.Outcome("run", "")))
	if err := r.OnTermination(t.Context(), nil, outbox.RunOutcome{RunID: "run"}); !errors.Is(err, outbox.ErrInvalidOutcome) {
		t.Errorf("an outcome without a status returns %v, want %v", err, outbox.ErrInvalidOutcome)
	}
	if len(r.Of("run")) != 1 || len(r.Of("other")) != 0 || len(r.Outcomes()) != 1 {
		t.Errorf("the recorder has %v, want one outcome of the run", r.Outcomes())
	}
	refusing := outboxtest.Recorder{Err: errors.New("no")}
	if err := refusing.OnTermination(t.Context(), nil, testdb.Outcome("run", "")); !errors.Is(err, refusing.Err) {
		t.Errorf("a recorder with an error returns %v, want %v", err, refusing.Err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
