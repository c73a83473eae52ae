package worker

import (
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// work makes a worker do all that it can: claim, send, record each kind of answer, claim after a lost lease, prune, send events.
func (r *rig) work(t *testing.T, pool *pgxpool.Pool, change func(*Config)) {
	t.Helper()
	const text = `{"grüße":"\\ ' 🙂"}`
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		if req.body != text && req.path != "/lost" {
			t.Errorf("%s got the body %q, want %q", req.path, req.body, text)
		}
		switch req.path {
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/refused":
			w.WriteHeader(http.StatusNotFound)
		}
	})
	failing := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusServiceUnavailable) })
	message := func(url string) outbox.Message {
		return outbox.Message{Outcome: outbox.RunOutcome{RunID: "run", Status: outbox.Succeeded, Result: []byte(text)}, URL: url}
	}
	r.history("delivered", 1, 2*time.Hour)
	r.history("dead", 1, 2*time.Hour)
	gone := newReceiver(t, to.answer)
	wants := map[outbox.ID]outbox.State{
		r.write(message(to.URL + "/delivered")):  outbox.StateDelivered,
		r.write(message(to.URL + "/refused")):    outbox.StateDead,
		r.write(message(gone.URL + "/gone")):     outbox.StateDead,
		r.write(message(failing.URL + "/retry")): outbox.StateDead,
		r.writeBytes(to.URL+"/lost", 100_000):    outbox.StateDelivered,
	}
	r.exec(`UPDATE outbox.due SET attempt = 1, locked_by = 'dead', locked_until = now() - interval '1 s'
WHERE message_id IN (SELECT id FROM outbox.message WHERE url LIKE '%/lost')`)
	c := r.config()
	c.Retention, c.DeadRetention = time.Hour, time.Hour
	events := sendEventsTo(t, &c, nil)
	change(&c)
	r.runOn(pool, c)
	for id, want := range wants {
		r.awaitState(id, want)
	}
	r.await("the old messages are pruned", func() bool {
		return r.count(`SELECT count(*) FROM outbox.message WHERE run_id LIKE '%#1'`) == 0
	})
	r.await("the events of the dead messages arrive", func() bool { return len(of(events.events(t), "outbox.message.dead")) >= 3 }) // of three endpoints
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class = 'lost'`); n != 1 {
		t.Errorf("%d attempts were lost, want 1, of the expired lease", n)
	}
}

// TestAPlantedFunctionIsNeverCalled: otherwise anybody who may create objects in a schema of the search path could make the
// worker send and sign anything.
func TestAPlantedFunctionIsNeverCalled(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			r := newRigOn(t, testdb.NewAt(t, testdb.OwnServer(t).URL()))
			r.exec(`CREATE SCHEMA evil`)
			shadows := testdb.Plant(t, r.Pool, "evil")
			shadows.PlantDomains(t, "evil", r.Schema)
			before := shadows.Calls(t)
			r.work(t, r.NewPool(t, func(c *pgxpool.Config) {
				c.ConnConfig.DefaultQueryExecMode = mode
				c.ConnConfig.RuntimeParams["search_path"] = "evil, pg_catalog, public"
			}), func(*Config) {})
			if n := shadows.Calls(t) - before; n != 0 {
				t.Errorf("planted functions were called %d times, want never", n)
			}
		})
	}
}

// TestAWorkerWorksThroughAPooler in transaction mode, and changes no setting of the server's sessions.
func TestAWorkerWorksThroughAPooler(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, testdb.NewAt(t, testdb.OwnServer(t).URL()))
	for _, setting := range []string{
		"bytea_output = 'escape'", "IntervalStyle = 'sql_standard'", "default_transaction_isolation = 'serializable'",
		"search_path = ''", "plan_cache_mode = 'force_custom_plan'", "lock_timeout = '7s'",
	} {
		r.exec(`ALTER DATABASE postgres SET ` + setting)
	}
	url := testdb.PgBouncer(t, r.DB)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = ConnsMin
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r.work(t, pool, func(c *Config) { c.PollInterval = 100 * time.Millisecond })
	for name, want := range map[string]string{
		"bytea_output": "escape", "default_transaction_isolation": "serializable", "plan_cache_mode": "force_custom_plan",
		"lock_timeout": "7s", "synchronous_commit": "on", "enable_seqscan": "on",
	} {
		for range 10 { // the pooler may give any of its sessions
			var got string
			if err := pool.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q on a session of the pooler's, want %q: %v", name, got, want, err)
				break
			}
		}
	}
}
