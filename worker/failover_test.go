package worker

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// at gives the rig another URL, and a new pool in place of the one that was connected to the old server.
func (r *rig) at(url string) {
	r.t.Helper()
	r.URL = url
	db := *r.DB
	db.Pool = db.NewPool(r.t, nil)
	*r.DB = db
	store, err := operator.NewStore(db.Pool, db.Schema)
	if err != nil {
		r.t.Fatal(err)
	}
	r.store = store
}

// TestAWorkerFollowsAFailover: the primary crashes and its standby is promoted. What was committed and replicated is
// delivered soon after the promotion. Without target_session_attrs the URL also leads to a standby; no session may stay there.
func TestAWorkerFollowsAFailover(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		synchronous bool
		settings    []string
	}{
		"synchronous":                                {true, nil},
		"synchronous, target_session_attrs":          {true, []string{"target_session_attrs=read-write"}},
		"asynchronous":                               {false, nil},
		"asynchronous, target_session_attrs=primary": {false, []string{"target_session_attrs=primary"}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := testdb.NewCluster(t, c.synchronous)
			r := newRigOn(t, testdb.NewAt(t, cluster.Primary.URL()))
			to := newReceiver(t, nil)
			both := cluster.URL(t, c.settings...)
			lines := &logLines{}
			config := r.config()
			config.Logger = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelInfo}))
			pool := r.NewPool(t, func(p *pgxpool.Config) { pointAt(t, p, both) })
			_, stop := r.runOn(pool, config)
			r.awaitState(r.writeTo(to.URL, "before"), outbox.StateDelivered)

			r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, reason) VALUES ($1, true, '')`, to.URL) // these messages wait until after the failover
			var waiting []outbox.ID
			for range 50 {
				waiting = append(waiting, r.writeTo(to.URL, "waiting"))
			}
			if !c.synchronous { // what the standby does not have yet may be lost
				if err := cluster.Primary.WaitReplicated(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			cluster.Failover(t)
			promoted := time.Now()
			r.at(cluster.Primary.URL())
			r.exec(`DELETE FROM outbox.endpoint`)
			after := r.writeTo(to.URL, "after")
			r.await("the first message is tried", func() bool { return len(to.requests()) > 1 })
			t.Logf("tried %v after the promotion", time.Since(promoted))
			for _, id := range append(waiting, after) {
				r.awaitState(id, outbox.StateDelivered)
			}
			// A session may reach the standby before its promotion. Then one more line says what to do.
			if n, advised := lines.count("the database cannot be used"), lines.count("the server is read-only"); n-advised > 1 || advised > 1 {
				t.Errorf("%d lines for one outage, %d of them with advice; want one of each at most", n, advised)
			}
			stop()
			cluster.Rejoin(t) // the first host is now the standby
			r.runOn(pool, config)
			r.awaitState(r.writeTo(to.URL, "to the second host"), outbox.StateDelivered)
		})
	}
}

// pointAt replaces the hosts in a pool's configuration.
func pointAt(t testing.TB, p *pgxpool.Config, url string) {
	t.Helper()
	other, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	p.ConnConfig.Host, p.ConnConfig.Port, p.ConnConfig.Fallbacks = other.Host, other.Port, other.Fallbacks
	p.ConnConfig.ValidateConnect = other.ValidateConnect
}

// TestAWorkerWaitsForAReadOnlyServer: for a while the server refuses sessions, or makes them read-only. The log has one line,
// or two when the first had no advice. Deliveries go on afterwards. A session that was opened meanwhile stays read-only.
func TestAWorkerWaitsForAReadOnlyServer(t *testing.T) {
	t.Parallel()
	ask := func(r *rig, statements ...string) {
		r.t.Helper()
		conn, err := pgx.Connect(r.t.Context(), r.URL)
		if err != nil {
			r.t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(r.t.Context())) }()
		for _, sql := range statements {
			if _, err := conn.Exec(r.t.Context(), sql); err != nil {
				r.t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	const endSessions = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`
	for name, how := range map[string]struct{ begin, end []string }{
		"by the server's setting": {
			[]string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"},
			[]string{"ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"},
		},
		"by the database's setting, which new sessions keep": {
			[]string{"ALTER DATABASE postgres SET default_transaction_read_only = on", endSessions},
			[]string{"ALTER DATABASE postgres RESET default_transaction_read_only"},
		},
		"by a restart as a standby": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := testdb.OwnServer(t)
			r := newRigOn(t, testdb.NewAt(t, server.URL()))
			r.at(r.URL + "&default_transaction_read_only=off") // the rig may write whenever the server can
			to := newReceiver(t, nil)
			lines := &logLines{}
			c := r.config()
			c.Logger = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelInfo}))
			var dialled atomic.Int64
			r.runOn(r.NewPool(t, func(p *pgxpool.Config) {
				delete(p.ConnConfig.RuntimeParams, "default_transaction_read_only")
				p.ConnConfig.DialFunc = countDials(&dialled, p.ConnConfig.DialFunc)
			}), c)
			r.awaitState(r.writeTo(to.URL, "before"), outbox.StateDelivered)
			var meanwhile []outbox.ID
			if how.begin == nil {
				if err := server.Demote(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				ask(r, how.begin...)
				r.Pool.Reset()
				meanwhile = append(meanwhile, r.writeTo(to.URL, "meanwhile")) // makes the worker write
			}
			const said, advice = "the database cannot be used", "the server is read-only"
			r.await("the log says that the server is read-only", func() bool { return lines.count(said) > 0 && (how.begin == nil || lines.count(advice) == 1) })
			tries := dialled.Load() + 50
			r.await("the worker's parts have tried to connect many times", func() bool { return dialled.Load() > tries })
			// River may have logged the outage before the worker did.
			// A lost session may have had a line of its own, before the advice.
			n, more := lines.count("level=WARN")+lines.count("level=ERROR"), lines.count(said)-1
			if n > 3+more || more > lines.count(advice) || lines.count(advice) > 1 {
				t.Errorf("%d lines for one outage, want 3 and one for each lost session at most: %s", n, lines.text.String())
			}
			if how.end == nil {
				if err := server.Promote(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				ask(r, how.end...)
			}
			writable := time.Now()
			r.Pool.Reset()
			for _, id := range append(meanwhile, r.writeTo(to.URL, "after")) {
				r.awaitState(id, outbox.StateDelivered)
			}
			t.Logf("delivered %v after it was writable again", time.Since(writable))
			r.await("the log says that the database can be used again", func() bool { return lines.count("the database can be used again") == 1 })
		})
	}
}

// TestAfterAFailoverNoWorkerIsTakenForDead: on the promoted server all locks are free. Three living workers have open
// requests during the failover, and no other worker sends these messages.
func TestAfterAFailoverNoWorkerIsTakenForDead(t *testing.T) {
	t.Parallel()
	cluster := testdb.NewCluster(t, true)
	r, to := newRigOn(t, testdb.NewAt(t, cluster.Primary.URL())), hold(t)
	both := cluster.URL(t)
	var stops []func()
	for range 3 {
		pool := r.NewPool(t, func(p *pgxpool.Config) { pointAt(t, p, both) })
		_, stop := r.runOn(pool, leasing(r.config()))
		stops = append(stops, stop)
	}
	r.awaitBelievers(3)
	const messages = 12
	for range messages {
		r.writeTo(to.URL, "held")
	}
	r.await("all requests are open", func() bool { return len(to.requests()) == messages })
	r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://a.test', '')`) // this commit writes the claims' WAL to disk as well, for which the claims did not wait
	cluster.Failover(t)
	r.at(cluster.Primary.URL())
	promoted := time.Now()
	r.awaitState(r.writeTo(newReceiver(t, nil).URL, "after"), outbox.StateDelivered)
	t.Logf("a new message was delivered %v after the promotion", time.Since(promoted).Round(time.Millisecond))
	r.awaitBelievers(3)
	to.letGo()
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := to.repeated(); n > 0 {
		t.Errorf("%d of %d messages were sent twice, want none: no worker died", n, messages)
	}
	for _, stop := range stops {
		stop()
	}
}
