package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// occupy opens connections until the server has none left. The function that it returns closes them.
func occupy(t testing.TB, url string) (free func()) {
	t.Helper()
	var held []*pgx.Conn
	free = func() {
		for _, conn := range held {
			_ = conn.Close(context.Background())
		}
		held = nil
	}
	t.Cleanup(free)
	for {
		conn, err := pgx.Connect(t.Context(), url)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "53300" {
			return free
		}
		must(t, err)
		held = append(held, conn)
	}
}

// TestAWorkerWaitsForAFreeConnection at the start and later: one line says what to do, and when there are free connections
// again, what is due is delivered.
func TestAWorkerWaitsForAFreeConnection(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	r := newRigOn(t, testdb.NewAt(t, server.URL()))
	r.exec(`ALTER SYSTEM SET max_connections = 25`)
	must(t, server.Crash())
	must(t, server.Restart(t.Context()))
	r.Pool.Reset()
	to := newReceiver(t, nil)
	id := r.writeTo(to.URL, "run-1") // the rig opens its connection, and keeps it
	lines := &logLines{}
	c := r.config()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	const away, back, advice = "the database cannot be used", "the database can be used again", "raise max_connections"

	free := occupy(t, server.URL())
	r.run(c)
	r.await("the log says that the database cannot be used", func() bool { return lines.count(away) == 1 })
	free()
	r.awaitState(id, outbox.StateDelivered)
	r.await("the log says that the database can be used again", func() bool { return lines.count(back) == 1 })

	free = occupy(t, server.URL())
	id = r.writeTo(to.URL, "run-2")
	r.awaitState(id, outbox.StateDelivered) // over the connections that the worker has
	r.exec(`SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a, pg_stat_activity me
WHERE me.pid = pg_backend_pid() AND a.backend_type = 'client backend' AND a.pid <> me.pid AND a.application_name = me.application_name`)
	again := occupy(t, server.URL()) // takes the connections that the worker lost, unless the worker was faster
	id = r.writeTo(to.URL, "run-3")
	free()
	again()
	r.awaitState(id, outbox.StateDelivered)
	r.await("the outage is over", func() bool { return lines.count(away) == lines.count(back) })
	if n := lines.count("level=WARN") + lines.count("level=ERROR"); n > 6 || lines.count(away) > 3 || lines.count(advice) == 0 {
		t.Errorf("%d lines for two outages, want 6 at most, with the advice:\n%s", n, lines.text.String())
	}
}

// TestAWorkerWaitsForASchemaThatWasDropped: the log names the command that makes the schema, and then deliveries go on.
func TestAWorkerWaitsForASchemaThatWasDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	lines := &logLines{}
	c := r.config()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	r.run(c)
	r.awaitState(r.writeTo(to.URL, "run-1"), outbox.StateDelivered)
	r.await("the schema is dropped", func() bool { // it takes many locks, and may lose a deadlock with the worker's statements
		_, err := r.Pool.Exec(t.Context(), "DROP SCHEMA "+r.Schema+" CASCADE")
		return err == nil
	})
	r.await("the log names the command", func() bool { return lines.count("outbox-worker migrate up") == 1 })
	must(t, migrations.Up(t.Context(), r.Pool, migrations.Config{Schema: r.Schema}))
	r.Pool.Reset() // its prepared statements were made for the old types
	r.awaitState(r.writeTo(to.URL, "run-2"), outbox.StateDelivered)
	r.await("the outage is over", func() bool { return lines.count("the database can be used again") == 1 })
	if n := lines.count("level=WARN") + lines.count("level=ERROR"); n > 6 {
		t.Errorf("%d lines for one outage, want 6 at most:\n%s", n, lines.text.String())
	}
}
