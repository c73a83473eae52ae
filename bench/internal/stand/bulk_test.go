package stand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// newTestDatabase returns a database with the tables of this project.
func newTestDatabase(t *testing.T) *Database {
	t.Helper()
	server, err := throwaway.Start(t.Context(), throwaway.Options{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDatabase(t.Context(), server.URL())
	if err == nil {
		err = d.MigrateOutbox(t.Context())
	}
	if err != nil {
		t.Fatal(errors.Join(err, server.Stop()))
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Drop(context.WithoutCancel(t.Context())), server.Stop()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// alike removes from a row the values that differ between any two rows: the id of the message, and the time.
func alike(row map[string]any) map[string]any {
	row = maps.Clone(row)
	for _, column := range []string{"id", "message_id", "run_id", "result", "created_at", "due_at"} {
		delete(row, column)
	}
	return row
}

func rowsOf(t *testing.T, d *Database, query string, args ...any) []map[string]any {
	t.Helper()
	rows, err := d.Pool.Query(t.Context(), d.In(query), args...)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// writeByHook writes the first messages with the statement that the hook uses.
func writeByHook(t *testing.T, d *Database, l Load, messages int) {
	t.Helper()
	w, err := outbox.NewWriter(outbox.Config{Schema: d.Schema})
	if err != nil {
		t.Fatal(err)
	}
	for n := range messages {
		err := pgx.BeginFunc(t.Context(), d.Pool, func(tx pgx.Tx) error {
			_, err := w.Insert(t.Context(), tx, l.Message(n))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A measurement of a backlog that was written in bulk holds for one that services wrote only if the rows are the same.
func TestRowsWrittenInBulkEqualThoseOfTheHook(t *testing.T) {
	t.Parallel()
	d := newTestDatabase(t)
	l := Load{Trial: 7, Messages: 6, URLs: []string{"http://127.0.0.1:1001/hook", "http://127.0.0.1:1002/hook"}}
	const byHook = 2
	writeByHook(t, d, l, byHook)
	if err := WriteBacklog(t.Context(), d, l, byHook, l.Messages); err != nil {
		t.Fatal(err)
	}
	for n := byHook; n < l.Messages; n++ {
		for _, query := range []string{
			"SELECT * FROM bench.message WHERE run_id = $1",
			"SELECT u.* FROM bench.due u JOIN bench.message m ON m.id = u.message_id WHERE m.run_id = $1",
		} {
			want, got := rowsOf(t, d, query, RunID(n%byHook)), rowsOf(t, d, query, RunID(n))
			if len(want) != 1 || len(got) != 1 {
				t.Fatalf("message %d: %d rows by the hook, %d in bulk; want 1 of each", n, len(want), len(got))
			}
			if w, g := fmt.Sprint(alike(want[0])), fmt.Sprint(alike(got[0])); w != g {
				t.Errorf("message %d: in bulk\n%s\nwant as by the hook\n%s", n, g, w)
			}
			if body, ok := got[0]["result"].([]byte); ok && !bytes.Equal(body, l.Body(n)) {
				t.Errorf("message %d: body %s; want %s", n, body, l.Body(n))
			}
		}
	}
}

func TestTheBacklogOfATenantWaitsInTheTenantsLane(t *testing.T) {
	t.Parallel()
	d := newTestDatabase(t)
	l := Load{Messages: 2, URLs: []string{"http://127.0.0.1:1001/hook"}, Tenant: "acme"}
	writeByHook(t, d, l, 1)
	if err := WriteBacklog(t.Context(), d, l, 1, l.Messages); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"SELECT tenant FROM bench.message", "SELECT endpoint FROM bench.due"} {
		if rows := rowsOf(t, d, query); len(rows) != 2 || fmt.Sprint(rows[0]) != fmt.Sprint(rows[1]) {
			t.Errorf("%s: got %v; want two equal rows", query, rows)
		}
	}
}

func TestABacklogWrittenInBulkIsInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	d := newTestDatabase(t)
	const messages = 50
	before := time.Now()
	if err := WriteBacklog(t.Context(), d, Load{URLs: []string{"http://127.0.0.1:1001/hook"}}, 0, messages); err != nil {
		t.Fatal(err)
	}
	rows, err := d.Pool.Query(t.Context(), d.In(`SELECT m.run_id, m.id, u.due_at
		FROM bench.message m JOIN bench.due u ON u.message_id = m.id ORDER BY m.id`))
	if err != nil {
		t.Fatal(err)
	}
	var run string
	var id outbox.ID
	var dueAt, earlier time.Time
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&run, &id, &dueAt}, func() error {
		if run != RunID(n) {
			t.Errorf("the message at place %d is %s; want %s", n, run, RunID(n))
		}
		if n > 0 && dueAt.Sub(earlier) != bulkStep {
			t.Errorf("message %d is due %v after the one before; want %v", n, dueAt.Sub(earlier), bulkStep)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 || id.Time().UnixMilli() != dueAt.UnixMilli() {
			t.Errorf("message %d: %v is not a UUID of version 7 made at %v", n, id, dueAt)
		}
		n, earlier = n+1, dueAt
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != messages || earlier.After(time.Now()) || earlier.Before(before.Add(-time.Minute)) {
		t.Errorf("%d messages, the last due at %v; want %d, due now", n, earlier, messages)
	}
}
