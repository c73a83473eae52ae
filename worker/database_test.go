package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// logLines keeps the log, so that a test can count texts in it.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// TestAWorkerWaitsForADatabaseThatIsAway at the start and later. Each outage is logged once, and costs no attempt.
func TestAWorkerWaitsForADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	r := newRigOn(t, testdb.NewAt(t, server.URL()))
	arrived, answer := make(chan struct{}, 1), make(chan struct{})
	to := newReceiver(t, func(_ http.ResponseWriter, req request) {
		if req.path == "/later" {
			arrived <- struct{}{}
			<-answer
		}
	})
	first := r.writeTo(to.URL, "run-1")
	down := func() {
		t.Helper()
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
	}
	up := func() {
		t.Helper()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Pool.Reset() // its idle connections were the dead server's
	}
	lines := &logLines{}
	const away, back = "the database cannot be used", "the database can be used again"
	c := r.config()
	c.DeliveryTimeout, c.Lease = testPatience, 2*testPatience
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))

	down()
	w, _ := r.run(c)
	r.await("the log says that the database is away", func() bool { return lines.count(away) == 1 })
	if w.Ready(t.Context()) == nil {
		t.Error("the worker is ready without a database")
	}
	up()
	r.awaitState(first, outbox.StateDelivered)
	r.await("the log says that the database is back", func() bool { return lines.count(back) == 1 })

	second := r.writeTo(to.URL+"/later", "run-2")
	<-arrived
	r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://a.test', '')`) // this commit writes the claim's WAL to disk as well, for which the claim did not wait
	down()
	close(answer)
	r.await("the log says again that the database is away", func() bool { return lines.count(away) == 2 })
	up()
	r.awaitState(second, outbox.StateDelivered)
	r.await("the log says again that the database is back", func() bool { return lines.count(back) == 2 })
	if d := r.state(second); len(d.AttemptList) != 1 || len(to.requests()) != 2 {
		t.Errorf("%d attempts and %d requests in all, want 1 and 2", len(d.AttemptList), len(to.requests()))
	}
	if n := lines.count(away); n != 2 {
		t.Errorf("%d lines for two outages, want 2", n)
	}
}

// TestRunReturnsAnErrorThatWaitingDoesNotMend at once, and the error says what to do.
func TestRunReturnsAnErrorThatWaitingDoesNotMend(t *testing.T) {
	t.Parallel()

	newer := func(t testing.TB) *testdb.DB {
		r := newRig(t)
		r.exec(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 999'`)
		r.exec(`CREATE OR REPLACE FUNCTION outbox.compatible_from() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 999'`)
		return r.DB
	}
	halfway := func(t testing.TB) *testdb.DB {
		r := newRig(t)
		r.exec(`DROP TABLE outbox.river_job CASCADE; DROP TABLE outbox.river_migration`)
		return r.DB
	}
	for name, c := range map[string]struct {
		db     func(testing.TB) *testdb.DB
		change func(*pgxpool.Config)
		is     error
		text   string
	}{
		"a schema that is not migrated": {testdb.NewEmpty, nil, migrations.ErrNotMigrated, "migrate up"},
		"a schema without River":        {halfway, nil, migrations.ErrNotMigrated, "migrate up"},
		"a schema of a newer version":   {newer, nil, migrations.ErrNewer, "999"},
		"no such database":              {testdb.New, func(c *pgxpool.Config) { c.ConnConfig.Database = "no_such_database" }, nil, "no_such_database"},
		"no such role":                  {testdb.New, func(c *pgxpool.Config) { c.ConnConfig.User = "no_such_role" }, nil, "no_such_role"},
		"no right to the schema":        {testdb.New, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["role"] = "pg_read_all_settings" }, nil, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := c.db(t)
			w, err := New(db.NewPool(t, c.change), Config{Schema: db.Schema})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			defer cancel()
			err = w.Run(ctx)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Run returns %v, want %v that says %q", err, c.is, c.text)
			}
			if w.Ready(t.Context()) == nil {
				t.Error("the worker is ready after Run returned an error")
			}
		})
	}
}

func TestNothingDependsOnTheSearchPath(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		if req.path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
	})
	retried := newReceiver(t, func(w http.ResponseWriter, req request) { w.WriteHeader(http.StatusServiceUnavailable) })
	r.history("delivered", 1, 2*time.Hour)
	pool := r.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = "" })
	c := r.config()
	c.Retention = time.Hour
	r.runOn(pool, c)
	r.awaitState(r.writeTo(to.URL+"/a", "run-1"), outbox.StateDelivered)
	r.awaitState(r.writeTo(to.URL+"/gone", "run-2"), outbox.StateDead)
	r.awaitState(r.writeTo(retried.URL, "run-3"), outbox.StateDead)
	r.await("the old message is pruned", func() bool { return r.count(`SELECT count(*) FROM outbox.message WHERE run_id LIKE 'delivered%'`) == 0 })
	waker, err := outbox.NewWaker(pool, r.Schema)
	if err != nil {
		t.Fatal(err)
	}
	waker.Wake()
	if err := waker.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
