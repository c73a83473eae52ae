package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
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
	schema = "pgxservice_" + strings.ToLower(rand.Text()[:8])
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

func TestBothWaysCommitTheOutcomeWithItsStep(t *testing.T) {
	t.Parallel()
	databaseURL, schema, pool := newDatabase(t)
	var out bytes.Buffer
	must(t, run(t.Context(), databaseURL, schema, []string{"https://example.com/hook"}, &out))
	rows, err := pool.Query(t.Context(), strings.ReplaceAll(`SELECT format('%s %s %s %s', s.state, m.status, m.url, convert_from(m.result, 'UTF8'))
FROM it.example_step s JOIN it.message m ON m.run_id = s.run_id JOIN it.due d ON d.message_id = m.id`, "it.", schema+"."))
	must(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	want := `done succeeded https://example.com/hook {"answer":42}`
	if len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("the steps and their messages are %q, want %q twice", got, want)
	}
	if strings.Count(out.String(), "its outcome is on its way\n") != 2 {
		t.Errorf("the example printed %q, want \"its outcome is on its way\" twice", out.String())
	}
}

func TestTheErrorNamesTheMissingArgument(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		databaseURL string
		args        []string
		want        string
	}{
		"no database":            {"", []string{"https://example.com"}, "DATABASE_URL"},
		"no callback":            {"postgres://localhost", nil, "callback URL"},
		"a callback to nowhere":  {"postgres://localhost", []string{"example.com/hook"}, "url: relative"},
		"a database URL of junk": {"postgres://[", []string{"https://example.com"}, "cannot parse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), c.databaseURL, "", c.args, &bytes.Buffer{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
