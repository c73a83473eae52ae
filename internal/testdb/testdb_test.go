package testdb_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestEachTestHasAMigratedSchemaOfItsOwn(t *testing.T) {
	t.Parallel()
	for what, newOne := range map[string]func(testing.TB) *testdb.DB{
		"in a database of its own":  testdb.New,
		"in the database of others": func(t testing.TB) *testdb.DB { return testdb.NewAt(t, os.Getenv(throwaway.URLVariable)) },
	} {
		t.Run(what, func(t *testing.T) {
			var names []string
			t.Run("two of them", func(t *testing.T) {
				a, b := newOne(t), newOne(t)
				if a.Name == b.Name {
					t.Fatalf("both have the name %s, want two names", a.Name)
				}
				for _, db := range []*testdb.DB{a, b} {
					if err := migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}); err != nil {
						t.Error(err)
					}
					if n := one[int](t, db, "SELECT count(*) FROM "+db.Schema+".message"); n != 0 {
						t.Errorf("it has %d messages, want none", n)
					}
					write(t, db)
				}
				names = []string{a.Name, b.Name}
			})
			mustBeGone(t, names)
		})
	}
}

// mustBeGone fails if a database or a schema that a test had is still there.
func mustBeGone(t *testing.T, names []string) {
	t.Helper()
	left := one[int](t, testdb.NewEmpty(t), `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = ANY ($1))
     + (SELECT count(*) FROM pg_database WHERE datname = ANY ($1))`, names)
	if left > 0 {
		t.Errorf("after their tests %d of %v are left, want none", left, names)
	}
}

func TestADatabaseIsDroppedThoughASessionIsLeft(t *testing.T) {
	t.Parallel()
	var name string
	var left *pgx.Conn
	t.Run("a test that forgets a session", func(t *testing.T) {
		db := testdb.New(t)
		conn, err := pgx.Connect(bounded(t), db.URL)
		must(t, err)
		name, left = db.Name, conn
	})
	mustBeGone(t, []string{name})
	if err := left.Ping(bounded(t)); sqlstate.Of(err) != "57P01" {
		t.Errorf("the session that was left answers %v, want that it was terminated", err)
	}
	_ = left.Close(bounded(t))
}

// The tests run this test again as another user, in a process of its own.
func TestAUserWhoMayNotCreateDatabasesGetsASchema(t *testing.T) {
	t.Parallel()
	const inner = "EPILOGUE_TEST_INNER"
	if os.Getenv(inner) != "" {
		db := testdb.New(t)
		if db.Name != db.Schema {
			t.Errorf("it got the database %s, want a schema only", db.Name)
		}
		write(t, db)
		return
	}
	db := testdb.New(t)
	role := db.Name + "_role"
	_, err := db.Pool.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'none'; GRANT CREATE ON DATABASE "+db.Name+" TO "+role,
		pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	t.Cleanup(func() {
		_, err := db.Pool.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role, pgx.QueryExecModeSimpleProtocol)
		must(t, err)
	})
	at, err := url.Parse(db.URL)
	must(t, err)
	at.User = url.UserPassword(role, "none")
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), throwaway.URLVariable+"="+at.String(), inner+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as a user who may not create databases the test ends with %v:\n%s", err, out)
	}
	if n := one[int](t, db, "SELECT count(*) FROM pg_namespace WHERE nspowner = $1::regrole", role); n != 0 {
		t.Errorf("%d schemas are left, want none", n)
	}
}

func TestTheDatabaseOfAURLOrOfSettingsIsReplaced(t *testing.T) {
	t.Parallel()
	for _, server := range []string{
		"postgres://u:p%40ss@db:5433/old?sslmode=disable", "postgresql://u:p%40ss@db:5433/old?dbname=older&sslmode=disable",
		"postgres://u:p%40ss@db:5433?database=old&sslmode=disable", "host=db port=5433 user=u password=p@ss dbname=old sslmode=disable",
	} {
		c, err := pgx.ParseConfig(testdb.InDatabase(server, "new"))
		must(t, err)
		if c.Database != "new" || c.Host != "db" || c.Port != 5433 || c.User != "u" || c.Password != "p@ss" || c.TLSConfig != nil {
			t.Errorf("%s became the database %q at %s:%d of %s, want only the database replaced", server, c.Database, c.Host, c.Port, c.User)
		}
	}
}

func write(t *testing.T, db *testdb.DB) {
	t.Helper()
	w, err := outbox.NewWriter(outbox.Config{Schema: db.Schema})
	must(t, err)
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		_, err := w.Insert(t.Context(), tx, outbox.Message{Outcome: testdb.Outcome("run", ""), URL: "https://receiver.test"})
		return err
	}))
}

func one[T any](t *testing.T, db *testdb.DB, sql string, args ...any) (value T) {
	t.Helper()
	must(t, db.Pool.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func TestAServerOfATestSurvivesACrash(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	db := testdb.NewAt(t, server.URL())
	if got := one[string](t, db, "SELECT current_setting('fsync')"); got != "on" {
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

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		testdb.New(b)
	}
}
