package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

// newDatabase returns the URL of a database with a migrated outbox in its own schema. Names without a schema, like that of
// the example's table, belong to that schema, too.
func newDatabase(t *testing.T) (databaseURL, schema string, pool *pgxpool.Pool) {
	t.Helper()
	server, err := throwaway.Start(t.Context(), throwaway.Options{Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	pool, err = pgxpool.New(t.Context(), server.URL())
	must(t, err)
	t.Cleanup(pool.Close)
	schema = "sqlservice_" + strings.ToLower(rand.Text()[:8])
	must(t, migrations.Up(t.Context(), pool, migrations.Config{Schema: schema}))
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "DROP SCHEMA "+schema+" CASCADE")
		must(t, err)
	})
	u, err := url.Parse(server.URL())
	must(t, err)
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	return u.String(), schema, pool
}

func count(t *testing.T, pool *pgxpool.Pool, schema string) (n int) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), strings.ReplaceAll(`SELECT count(*)
FROM it.example_step s JOIN it.message m ON m.run_id = s.run_id AND m.status = s.state JOIN it.due d ON d.message_id = m.id`,
		"it.", schema+".")).Scan(&n))
	return n
}

func TestTheOutcomeIsCommittedWithItsStep(t *testing.T) {
	t.Parallel()
	databaseURL, schema, pool := newDatabase(t)
	var out bytes.Buffer
	must(t, run(t.Context(), databaseURL, schema, []string{"https://example.com/hook"}, &out))
	if n := count(t, pool, schema); n != 1 {
		t.Errorf("%d steps have their message, want 1", n)
	}
	if !strings.HasSuffix(out.String(), "failed: its outcome is on its way\n") {
		t.Errorf("the example printed %q, want \"its outcome is on its way\" at the end", out.String())
	}
}

// TestLibPQWorksTheSame checks the first comment of the program.
func TestLibPQWorksTheSame(t *testing.T) {
	t.Parallel()
	databaseURL, schema, pool := newDatabase(t)
	db, err := sql.Open("postgres", databaseURL)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema})
	must(t, err)
	_, err = db.ExecContext(t.Context(), createStep+"; INSERT INTO example_step (run_id, number) VALUES ('run-1', 0)")
	must(t, err)
	outcome := outbox.RunOutcome{
		RunID: "run-1", Status: outbox.Failed, Error: "no", Headers: map[string]string{"callback_url": "https://example.com/hook"},
	}
	must(t, acknowledge(t.Context(), db, terminal, outcome))
	wake(t.Context(), db, schema)
	if err := acknowledge(t.Context(), db, terminal, outcome); err == nil {
		t.Error("a second acknowledgement returns no error, want one")
	}
	if n := count(t, pool, schema); n != 1 {
		t.Errorf("%d steps have their message, want 1", n)
	}
}

func TestTheErrorNamesTheMissingArgument(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		databaseURL string
		args        []string
	}{
		"DATABASE_URL":  {"", []string{"https://example.com"}},
		"callback URL":  {"postgres://localhost", nil},
		"url: relative": {"postgres://localhost", []string{"example.com/hook"}},
	} {
		err := run(t.Context(), c.databaseURL, "", c.args, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
