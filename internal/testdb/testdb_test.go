package testdb_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestEachTestHasAMigratedSchemaOfItsOwn(t *testing.T) {
	t.Parallel()
	var schemas []string
	var after *testdb.DB
	t.Run("two of them", func(t *testing.T) {
		a, b := testdb.New(t), testdb.New(t)
		if a.Schema == b.Schema {
			t.Fatalf("both schemas have the name %s, want two names", a.Schema)
		}
		for _, db := range []*testdb.DB{a, b} {
			if err := migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}); err != nil {
				t.Error(err)
			}
		}
		schemas = []string{a.Schema, b.Schema}
	})
	after = testdb.NewEmpty(t)
	var left int
	err := after.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = ANY ($1)", schemas).Scan(&left)
	if err != nil || left > 0 {
		t.Errorf("after their tests %d schemas are left (%v), want none", left, err)
	}
}

func TestAServerOfATestSurvivesACrash(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	db := testdb.NewAt(t, server.URL())
	if got := setting(t, db.Pool, "fsync"); got != "on" {
		t.Errorf("fsync is %s, want on", got)
	}
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := db.Pool.Ping(t.Context()); err == nil {
		t.Error("the crashed server answers a ping, want an error")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Pool.Reset() // its idle connections belong to the server that crashed
	if err := migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}); err != nil {
		t.Error(err)
	}
}

func TestTheClockOfAServerCanDiffer(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{10 * time.Second, -time.Hour} {
		server := testdb.ServerWithClock(t, offset) // it checks the clock by itself
		db := testdb.NewAt(t, server.URL())
		must(t, server.Restart(t.Context()))
		db.Pool.Reset()
		var slept string
		must(t, db.Pool.QueryRow(t.Context(), "SELECT pg_sleep(0.01)::text").Scan(&slept)) // a sleep ends even with this clock
	}
}

func TestAMissingDatabaseFailsTheRun(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), throwaway.URLVariable+"=postgres://nobody@127.0.0.1:1/none?connect_timeout=5")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), throwaway.URLVariable) {
		t.Errorf("the tests ended with %v, want the status 1, and a message that names %s:\n%s", err, throwaway.URLVariable, out)
	}
}

func TestAnUnknownChildPrintsThatItIsUnknown(t *testing.T) {
	t.Parallel()
	cmd := testdb.NewEmpty(t).Command("nobody")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err == nil || !strings.Contains(said.String(), `no child is called "nobody"`) {
		t.Errorf("the child ended with %v and printed %q, want an error that names the child", err, said.String())
	}
}

func setting(t *testing.T, pool *pgxpool.Pool, name string) (value string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		testdb.New(b)
	}
}
