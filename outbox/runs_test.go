package outbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func TestARunTellsWhatBecameOfItsMessagesThroughEveryDriver(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	const run = "Lauf ü → 日本"
	first := fixture.Write(t, db, fixture.Message(run))
	invalid := fixture.Message(run)
	invalid.URL = "relative"
	second := fixture.Write(t, db, invalid)
	fixture.Write(t, db, fixture.Message("another"))
	// What somebody wrote by hand must be readable, too.
	fixture.Execute(t, db, "UPDATE %s.due SET due_at = 'infinity', waits_for = 'the signing key é'", db.Schema)
	pgxDB, pqDB := stdlib.OpenDBFromPool(db.Pool), openPQ(t, db)
	latin := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["client_encoding"] = "LATIN1" })
	for name, from := range map[string]outbox.RowQuerier{"pgx": db.Pool, "pgx's stdlib": outbox.SQLDB(pgxDB), "lib/pq": outbox.SQLDB(pqDB), "LATIN1": latin} {
		runs, err := outbox.NewRuns(from, db.Schema)
		must(t, err)
		all, err := runs.Messages(t.Context(), run)
		must(t, err)
		if len(all) != 2 || all[0].ID != first || all[1].ID != second {
			t.Fatalf("%s: %+v", name, all)
		}
		if m := all[0]; m.RunID != run || m.State != outbox.StatePending || m.Settled() || m.NextAttemptAt == nil || *m.WaitsFor != "the signing key é" {
			t.Errorf("%s: the first is %+v", name, m)
		}
		if m := all[1]; m.State != outbox.StateDead || !m.Settled() || !strings.Contains(*m.DeadError, "relative") || *m.DeadReason != "invalid" {
			t.Errorf("%s: the second is %+v", name, m)
		}
		none, err := runs.Messages(t.Context(), "never heard of")
		if err != nil || len(none) != 0 {
			t.Errorf("%s: of no run: %v, %v", name, none, err)
		}
	}
	must(t, pgxDB.Close())
	must(t, pqDB.Close())
}

func TestWaitEndsWhenAllMessagesOfTheRunAreSettled(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	runs, err := outbox.NewRuns(db.Pool, db.Schema)
	must(t, err)
	type answer struct {
		all []outbox.RunMessage
		err error
	}
	ended := make(chan answer, 1)
	go func() {
		all, err := runs.Wait(t.Context(), "run")
		ended <- answer{all, err}
	}()
	fixture.Write(t, db, fixture.Message("run"))
	fixture.Write(t, db, fixture.Message("run"))
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if seen, err := runs.Wait(short, "run"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait that is too short: %+v, %v", seen, err)
	}
	fixture.Execute(t, db, "DELETE FROM %s.due", db.Schema) // as when they are delivered
	got := <-ended
	if got.err != nil || len(got.all) == 0 || got.all[0].State != outbox.StateDelivered {
		t.Errorf("it returns %+v, %v", got.all, got.err)
	}
}

func TestAWakeGoesThroughDatabaseSQLToo(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	listener, err := db.Pool.Acquire(t.Context())
	must(t, err)
	defer listener.Release()
	_, err = listener.Exec(t.Context(), `LISTEN "`+outbox.WakeChannel(db.Schema)+`"`)
	must(t, err)
	conn := openPQ(t, db)
	defer func() { must(t, conn.Close()) }()
	waker, err := outbox.NewWaker(outbox.SQLDB(conn), db.Schema)
	must(t, err)
	waker.Wake()
	_, err = listener.Conn().WaitForNotification(t.Context())
	must(t, err)
	must(t, waker.Close(t.Context()))
}

func TestWhatIsNilIsAnErrorThatSaysSo(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func() error{
		"NewWaker":        func() error { _, err := outbox.NewWaker(nil, ""); return err },
		"NewWaker, typed": func() error { _, err := outbox.NewWaker((*pgxpool.Pool)(nil), ""); return err },
		"NewRuns":         func() error { _, err := outbox.NewRuns(nil, ""); return err },
		"a zero Runs":     func() error { _, err := new(outbox.Runs).Messages(t.Context(), "run"); return err },
		"SQLDB": func() error {
			runs, err := outbox.NewRuns(outbox.SQLDB(nil), "")
			must(t, err)
			_, err = runs.Messages(t.Context(), "run")
			return err
		},
		"a zero Writer": func() error {
			_, err := new(outbox.Writer).Insert(t.Context(), nil, fixture.Message("run"))
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
