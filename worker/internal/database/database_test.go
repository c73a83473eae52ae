package database

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

const testPatience = time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open returns a worker's pool on a server.
func open(t testing.TB, url string) *Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	must(t, err)
	config.MaxConns = 6
	p, err := Open(config, "none", slog.New(slog.DiscardHandler), nil)
	must(t, err)
	t.Cleanup(p.Close)
	return p
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testPatience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, and this did not happen: %s", testPatience, what)
		}
	}
}

// TestWhichErrorsBelongToTheSession uses the errors that a real server gives.
func TestWhichErrorsBelongToTheSession(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	other := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		must(t, err)
	}
	other("CREATE TABLE " + db.Schema + ".t (a integer PRIMARY KEY)")
	other("INSERT INTO " + db.Schema + ".t VALUES (1)")
	table := db.Schema + ".t"
	for name, c := range map[string]struct {
		fault   func(ctx context.Context, conn *pgx.Conn) error
		session bool
	}{
		"a session that is ended": {func(ctx context.Context, conn *pgx.Conn) error {
			other("SELECT pg_terminate_backend($1)", int32(conn.PgConn().PID()))
			_, err := conn.Exec(ctx, "SELECT pg_sleep(30)")
			return err
		}, true},
		"a transaction that waits too long": {func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET idle_in_transaction_session_timeout = 1; BEGIN")
			must(t, err)
			await(t, "the server ends it", func() bool {
				var n int
				must(t, db.Pool.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", int32(conn.PgConn().PID())).Scan(&n))
				return n == 0
			})
			_, err = conn.Exec(ctx, "SELECT 1")
			return err
		}, true},
		"a read-only session": {func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET default_transaction_read_only = on")
			must(t, err)
			_, err = conn.Exec(ctx, "DELETE FROM "+table)
			return err
		}, true},
		"a prepared statement that is gone": {func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Prepare(ctx, "mine", "SELECT 1")
			must(t, err)
			_, err = conn.PgConn().Exec(ctx, "DISCARD ALL").ReadAll()
			must(t, err)
			_, err = conn.Exec(ctx, "mine")
			return err
		}, true},
		"a plan that no longer fits": {func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Prepare(ctx, "mine", "SELECT * FROM "+table)
			must(t, err)
			other("ALTER TABLE " + table + " ADD COLUMN b integer")
			_, err = conn.Exec(ctx, "mine")
			return err
		}, true},
		"a deadline": {func(ctx context.Context, conn *pgx.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			defer cancel()
			_, err := conn.Exec(ctx, "SELECT pg_sleep(30)")
			return err
		}, true},
		"a lock": {func(ctx context.Context, conn *pgx.Conn) error {
			release := faulty.Hold(t, db.Pool, "LOCK TABLE "+db.Schema+".endpoint")
			defer release()
			_, err := conn.Exec(ctx, "SET lock_timeout = 1")
			must(t, err)
			_, err = conn.Exec(ctx, "LOCK TABLE "+db.Schema+".endpoint")
			return err
		}, false},
		"a row that is there already": {func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "INSERT INTO "+table+" (a) VALUES (1)")
			return err
		}, false},
		"something that is not supported": {func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "CREATE ASSERTION a CHECK (true)")
			return err
		}, false},
		"a server that is not there": {func(ctx context.Context, _ *pgx.Conn) error {
			_, err := pgx.Connect(ctx, "postgres://127.0.0.1:1/x?sslmode=disable")
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), db.URL)
			must(t, err)
			defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
			err = c.fault(t.Context(), conn)
			if err == nil || ofSession(fmt.Errorf("wrapped: %w", err)) != c.session {
				t.Errorf("error %v: is it an error of the session? got %t, want %t", err, !c.session, c.session)
			}
		})
	}
}

// TestAListenerFollowsItsPool: the listener opens its new session where the pool does, and finds out by itself that its
// server is read-only.
func TestAListenerFollowsItsPool(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	db := testdb.NewEmptyAt(t, server.URL())
	pool := open(t, server.URL())
	var wakes atomic.Int64
	l := &Listener{Pool: pool, Channel: "epilogue_test", Wake: func() { wakes.Add(1) }, Lock: noLock{}, probe: 100 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	listening := func() (pid int) {
		must(t, db.Pool.QueryRow(t.Context(), `SELECT coalesce(max(pid), 0) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND (query LIKE 'LISTEN%' OR query LIKE 'show transaction_read_only') AND backend_type = 'client backend'`).Scan(&pid))
		return pid
	}
	hears := func() {
		t.Helper()
		heard := wakes.Load()
		await(t, "it hears", func() bool {
			_, err := db.Pool.Exec(t.Context(), "NOTIFY epilogue_test")
			must(t, err)
			return wakes.Load() > heard
		})
	}
	await(t, "it listens", func() bool { return listening() != 0 })
	first := listening()
	hears()
	if !pool.Failed(&pgconn.PgError{Code: readOnlyTransaction}) {
		t.Error("Failed is false for a read-only session, want true: the caller should try again")
	}
	await(t, "it listens on another session", func() bool { return listening() != 0 && listening() != first })
	hears()

	conn, err := pgx.Connect(t.Context(), server.URL()) // can write whatever the server's setting
	must(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{"SET default_transaction_read_only = off", "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"} {
		_, err = conn.Exec(t.Context(), sql)
		must(t, err)
	}
	await(t, "it has left the server", func() bool { return listening() == 0 })
	for _, sql := range []string{"ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"} {
		_, err = conn.Exec(t.Context(), sql)
		must(t, err)
	}
	await(t, "it is back", func() bool { return listening() != 0 })
	hears()
}

// TestAPoolClosesInTime: Close returns in time, whatever the connections wait for.
func TestAPoolClosesInTime(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	proxy, url := faulty.Between(t, db.URL)
	pool := open(t, url)
	waits := make(chan error, 1)
	conn, err := pool.Acquire(t.Context())
	must(t, err)
	other, err := pool.Acquire(t.Context())
	must(t, err)
	other.Release() // idle
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_catalog.pg_sleep(600)")
		conn.Release()
		waits <- err
	}()
	proxy.Do(faulty.All, faulty.Freeze(faulty.Both))
	began := time.Now()
	pool.Close()
	if took := time.Since(began); took > 2*closeTimeout+10*time.Second { // what a loaded machine adds; nobody answers for longer
		t.Errorf("Close took %v, want about %v at most", took, 2*closeTimeout)
	}
	if err := <-waits; err == nil {
		t.Error("a statement without an answer has succeeded, want an error")
	}
	if _, err := pool.Acquire(t.Context()); err == nil {
		t.Error("the closed pool still gives connections, want an error")
	}
}

// noLock is a session that holds no lock: it only listens for wakes.
type noLock struct{}

func (noLock) Begin(context.Context, *pgx.Conn) error     { return nil }
func (noLock) Next() time.Time                            { return time.Now().Add(time.Hour) }
func (noLock) Beat(context.Context, *pgx.Conn) error      { return nil }
func (noLock) Leave(context.Context, *pgx.Conn, bool)     {}
func (noLock) Lost(context.Context) (again time.Duration) { return time.Second }
