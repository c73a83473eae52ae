package testdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

const stepMax = time.Minute

func TestAFailoverKeepsTheReplicatedRows(t *testing.T) {
	t.Parallel()
	c := testdb.NewCluster(t, false)
	execute(t, c.Primary, "CREATE TABLE kept AS SELECT 1 AS n")
	must(t, c.Primary.WaitReplicated(bounded(t)))
	session := connect(t, c.Standby.URL())
	if _, err := session.Exec(bounded(t), "INSERT INTO kept VALUES (2)"); sqlstate.Of(err) != "25006" {
		t.Errorf("a write on the standby returns %v, want a read-only error", err)
	}
	both := c.URL(t, "target_session_attrs=read-write")

	c.Failover(t)
	if _, err := session.Exec(bounded(t), "INSERT INTO kept VALUES (2)"); err != nil {
		t.Errorf("a write in the session from before the promotion returns %v, want none", err)
	}
	must(t, session.Close(bounded(t)))
	session = connect(t, both)
	if got := count(t, session); got != 2 {
		t.Errorf("got %d rows, want 2", got)
	}

	c.Rejoin(t)
	must(t, c.Primary.WaitReplicated(bounded(t)))
	if got := count(t, connect(t, c.Standby.URL())); got != 2 {
		t.Errorf("got %d rows on the server that rejoined, want 2", got)
	}
	c.Failover(t) // and back
	execute(t, c.Primary, "INSERT INTO kept VALUES (3)")
}

func TestASynchronousClusterLosesNoCommit(t *testing.T) {
	t.Parallel()
	c := testdb.NewCluster(t, true)
	execute(t, c.Primary, "CREATE TABLE kept AS SELECT 1 AS n")
	must(t, c.Standby.Shutdown())

	// Without the standby a commit waits.
	conn := connect(t, c.Primary.URL())
	ctx, cancel := context.WithCancel(bounded(t))
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "INSERT INTO kept VALUES (2)")
		result <- err
	}()
	observer := connect(t, c.Primary.URL())
	eventually(t, "the commit waits for the standby", func() bool {
		var waits bool
		must(t, observer.QueryRow(bounded(t), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1)",
			conn.PgConn().PID()).Scan(&waits))
		return waits
	})
	must(t, c.Standby.Restart(bounded(t)))
	if err := <-result; err != nil {
		t.Errorf("the commit returns %v, want none", err)
	}
	cancel()
	must(t, c.Primary.SetSynchronous(bounded(t), true)) // returns when the standby has caught up
	c.Failover(t)
	if got := count(t, connect(t, c.Primary.URL())); got != 2 {
		t.Errorf("got %d rows, want 2", got)
	}
}

func TestADemotedServerIsReadOnlyUntilItIsPromoted(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	execute(t, server, "CREATE TABLE kept AS SELECT 1 AS n")
	for _, before := range []func() error{func() error { return nil }, server.Crash} {
		must(t, before())
		must(t, server.Demote(bounded(t)))
		conn := connect(t, server.URL())
		if _, err := conn.Exec(bounded(t), "INSERT INTO kept VALUES (2)"); sqlstate.Of(err) != "25006" {
			t.Errorf("a write returns %v, want a read-only error", err)
		}
		must(t, server.Promote(bounded(t)))
		if _, err := conn.Exec(bounded(t), "INSERT INTO kept VALUES (2)"); err != nil {
			t.Errorf("a write in the same session after the promotion returns %v, want none", err)
		}
		must(t, server.Restart(bounded(t)))
		execute(t, server, "DELETE FROM kept WHERE n = 2")
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepMax)
	t.Cleanup(cancel)
	return ctx
}

// connect returns a connection that is closed before its server is stopped.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), url)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stepMax)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func execute(t *testing.T, server *throwaway.Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), server.URL())
	must(t, err)
	defer func() { must(t, conn.Close(bounded(t))) }()
	_, err = conn.Exec(bounded(t), sql)
	must(t, err)
}

func count(t *testing.T, conn *pgx.Conn) (rows int) {
	t.Helper()
	must(t, conn.QueryRow(bounded(t), "SELECT count(*) FROM kept").Scan(&rows))
	return rows
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(stepMax)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, and this did not happen: %s", stepMax, what)
		}
		time.Sleep(5 * time.Millisecond) // the server sends no event when a backend begins to wait
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
