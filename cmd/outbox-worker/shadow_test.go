package main

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// A role that may create objects in a schema of the search_path plants one with the name of each function, operator and type
// of Postgres. Nothing of ours calls them: not the migrations, with any tool, not the hook or the store in their caller's
// session, not the commands.
func TestAPlantedFunctionIsNeverCalled(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	for name, c := range map[string]struct{ schema, path string }{
		"in a schema before pg_catalog": {"evil", "evil, pg_catalog, public"},
		"in public":                     {"public", `"$user", public`},
	} {
		t.Run(name, func(t *testing.T) {
			database := "shadow_" + c.schema
			admin := testdb.NewEmptyAt(t, server.URL())
			execute(t, admin, "CREATE DATABASE "+database)
			clean := admin.NewPool(t, func(config *pgxpool.Config) {
				config.ConnConfig.Database = database
				config.ConnConfig.RuntimeParams["search_path"] = "pg_catalog"
			})
			mustExec(t, clean, "CREATE SCHEMA IF NOT EXISTS "+c.schema)
			shadows := testdb.Plant(t, clean, c.schema)
			mustExec(t, clean, "ALTER DATABASE "+database+" SET search_path = "+c.path)
			hostile := &testdb.DB{Schema: "outbox", URL: testdb.InDatabase(server.URL(), database)}
			hostile.Pool = hostile.NewPool(t, nil)
			if c.schema == "evil" { // from public, Postgres prefers its own function when it matches as well
				if _, err := hostile.Pool.Exec(t.Context(), "SELECT now()"); err == nil || !strings.Contains(err.Error(), "a planted now() was called") {
					t.Fatalf("a statement that should call the planted function returns %v, want the planted error", err)
				}
			}
			if _, err := hostile.Pool.Exec(t.Context(), `SELECT pg_column_size('{}'::pg_catalog.jsonb)`); err == nil || !strings.Contains(err.Error(), "a planted") {
				t.Fatalf("a statement that should call the planted function returns %v, want the planted error", err)
			}
			before := shadows.Calls(t)
			unharmed := func(what string) {
				t.Helper()
				if n := shadows.Calls(t); n != before {
					t.Errorf("%s: planted objects were called %d times, want never", what, n-before)
					before = n
				}
			}

			invoke(t, environment(hostile), "migrate", "up").wants(t, exitOK)
			unharmed("migrate up")
			shadows.PlantDomains(t, c.schema, "outbox")
			invoke(t, environment(hostile), "migrate", "status").wants(t, exitOK)
			unharmed("migrate status")
			bound(t, clean, "outbox")

			mustExec(t, clean, `INSERT INTO outbox.event_wanted (seen) VALUES (now())`) // makes the store write notes of events
			writeUnderShadows(t, hostile)
			unharmed("the hook")
			storeUnderShadows(t, hostile)
			unharmed("the store")
			commandsUnderShadows(t, hostile)
			unharmed("the commands")

			shadows.RemoveDomains(t, c.schema)
			invoke(t, environment(hostile), "migrate", "down", "--yes").wants(t, exitOK)
			unharmed("migrate down")
			plain := invoke(t, environment(hostile), "migrate", "sql")
			mustExec(t, hostile.Pool, plain.stdout)
			unharmed("migrate sql")
			bound(t, clean, "outbox")
			mustExec(t, hostile.Pool, invoke(t, environment(hostile), "migrate", "sql", "--down").stdout)
			unharmed("migrate sql --down")
		})
	}
}

func mustExec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// bound checks that no constraint, view, default or index of ours uses an object that is neither Postgres's nor ours.
func bound(t *testing.T, pool *pgxpool.Pool, schema string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT pg_describe_object(d.classid, d.objid, 0) || ' uses ' || pg_describe_object(d.refclassid, d.refobjid, 0)
FROM pg_depend d
WHERE (pg_identify_object(d.refclassid, d.refobjid, 0)).schema IN ('evil', 'public', 'planted')
  AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
  AND d.classid NOT IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass) -- those that are planted themselves
  AND (pg_identify_object(d.classid, d.objid, d.objsubid)).identity ~ ('\y' || $1 || '\.')`, schema)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(list) > 0 {
		t.Errorf("these of our objects use planted ones: %v, %v; want none", list, err)
	}
}

func writeUnderShadows(t *testing.T, db *testdb.DB) {
	t.Helper()
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: db.Schema, DedupeKey: func(o outbox.RunOutcome) string { return o.RunID }})
	if err != nil {
		t.Fatal(err)
	}
	several, err := hook.NewWebhook(hook.WebhookConfig{
		Schema: db.Schema, DedupeKey: func(o outbox.RunOutcome) string { return "several " + o.RunID }, DedupeScope: hook.DedupeURL,
		TenantOf: func(outbox.RunOutcome) string { return "acme" }, Options: outbox.Options{Delay: time.Second},
		URLs: func(outbox.RunOutcome) []string { return []string{endpointA, endpointB, "é relative"} },
	})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := []outbox.RunOutcome{
		testdb.Outcome("ascii", endpointA), testdb.Outcome("not ascii: é 🎉", endpointA), testdb.Outcome("dead", "é relative"),
		{RunID: "failed", Status: outbox.Failed, Error: "→", Headers: map[string]string{"callback_url": endpointB, "k": "é"}},
	}
	end := func(tx outbox.Tx, way string) error {
		for _, o := range outcomes {
			for range 2 { // the second one is a duplicate
				o := o
				o.RunID += way
				if _, err := h.Write(t.Context(), tx, o); err != nil {
					return err
				}
				if _, err := several.Write(t.Context(), tx, o); err != nil {
					return err
				}
			}
		}
		return tx.Commit(t.Context())
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		pool := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
		tx, err := pool.Begin(t.Context())
		if err == nil {
			err = end(tx, mode.String())
		}
		if err != nil {
			t.Errorf("in mode %v the hook returns %v, want no error", mode, err)
		}
	}
	pq, err := sql.Open("postgres", db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pq.Close() }()
	tx, err := pq.BeginTx(t.Context(), nil)
	if err == nil {
		err = end(outbox.SQLTx(tx), "pq")
	}
	if err != nil {
		t.Errorf("with lib/pq the hook returns %v, want no error", err)
	}
	waker, err := outbox.NewWaker(db.Pool, db.Schema)
	if err != nil {
		t.Fatal(err)
	}
	waker.Wake()
	if err := waker.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func storeUnderShadows(t *testing.T, db *testdb.DB) {
	t.Helper()
	store, err := operator.NewStore(db.Pool, db.Schema)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	all, err := store.List(ctx, operator.Filter{
		States: []outbox.State{outbox.StatePending}, Endpoint: endpointA, NewerThan: time.Hour, Limit: 3,
	})
	if err != nil || len(all) < 2 {
		t.Fatalf("%d messages are listed, %v; want 2 at least", len(all), err)
	}
	failed, err := store.List(ctx, operator.Filter{States: []outbox.State{outbox.StatePending}, Endpoint: endpointB}) // these have no result
	if err != nil || len(failed) == 0 {
		t.Fatalf("%d messages are listed, %v; want some", len(failed), err)
	}
	id := []outbox.ID{all[0].ID, failed[0].ID}
	_, showErr := store.Show(ctx, id[0])
	cancelErr := store.Cancel(ctx, id, "")
	_, replayErr := store.Replay(ctx, id, "")
	cancelAgainErr := store.Cancel(ctx, id, "")
	_, copyErr := store.Replay(ctx, id, endpointB)
	pauseErr := store.Pause(ctx, endpointA, "")
	_, resumeErr := store.Resume(ctx, endpointA)
	limitErr := store.Limit(ctx, endpointA, operator.Limits{MaxInFlight: 1, RatePerSecond: 2}, "")
	_, resumeAgainErr := store.Resume(ctx, endpointA) // the endpoint is not paused any more, so that Postgres evaluates the other conditions
	_, overviewErr := store.Overview(ctx)
	_, endpointsErr := store.Endpoints(ctx, 3)
	_, deadErr := store.List(ctx, operator.Filter{States: []outbox.State{outbox.StateDead, outbox.StateCancelled}, RunID: "x", OlderThan: time.Second})
	ofTenantErr := tenantUnderShadows(t, db)
	checkErr := migrations.Check(ctx, db.Pool, migrations.Config{Schema: db.Schema})
	upErr := migrations.Up(ctx, db.Pool, migrations.Config{Schema: db.Schema})
	err = errors.Join(showErr, cancelErr, replayErr, cancelAgainErr, copyErr, pauseErr, resumeErr, limitErr, resumeAgainErr, overviewErr, endpointsErr, deadErr, ofTenantErr, checkErr, upErr)
	if err != nil {
		t.Error(err)
	}
}

// tenantUnderShadows calls what only a tenant's store does.
func tenantUnderShadows(t *testing.T, db *testdb.DB) error {
	t.Helper()
	store, err := operator.NewStore(db.Pool, db.Schema)
	if err != nil {
		t.Fatal(err)
	}
	m := outbox.Message{Outcome: testdb.Outcome("of acme", endpointA), URL: endpointA, Tenant: "acme", DedupeKey: "acme"}
	ids := []outbox.ID{written(t, db, m)}
	m.DedupeKey = ""
	written(t, db, m)
	ctx := t.Context()
	acme, err := store.OfTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	_, overviewErr := acme.Overview(ctx)
	_, endpointsErr := acme.Endpoints(ctx, 1)
	_, listErr := acme.List(ctx, operator.Filter{})
	_, _, tenantsErr := acme.Tenants(ctx, 1)
	_, knownErr := acme.Known(ctx, endpointA)
	pauseErr := acme.Pause(ctx, endpointA, "")
	_, resumeErr := acme.Resume(ctx, endpointA)
	cancelErr := acme.Cancel(ctx, ids, "")
	_, pausedErr := acme.PausedAmong(ctx, ids)
	_, lookErr := acme.ListPage(ctx, operator.Filter{Look: 1, Endpoint: endpointB, OlderThan: time.Hour, States: []outbox.State{outbox.StateDelivered}})
	_, lookDueErr := acme.ListPage(ctx, operator.Filter{Look: 1, Endpoint: endpointB, NewerThan: time.Hour, States: []outbox.State{outbox.StateRetrying}})
	_, lookDeadErr := acme.ListPage(ctx, operator.Filter{Look: 1, States: []outbox.State{outbox.StateDead}})
	_, copyErr := acme.Replay(ctx, ids, endpointB)
	_, resumeURLErr := acme.ResumeURL(ctx, endpointA)
	_, cancelDueErr := acme.CancelDue(ctx, endpointA, "")
	purge, err := acme.Purge("", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, surveyErr := purge.Survey(ctx)
	_, eraseErr := purge.Erase(ctx, 0)
	purge, err = store.Purge("of acme", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, surveyRunErr := purge.Survey(ctx)
	_, eraseRunErr := purge.Erase(ctx, 0)
	return errors.Join(pausedErr, lookErr, lookDueErr, lookDeadErr, overviewErr, endpointsErr, listErr, tenantsErr, knownErr, pauseErr, resumeErr, cancelErr, copyErr, resumeURLErr, cancelDueErr,
		surveyErr, eraseErr, surveyRunErr, eraseRunErr)
}

func commandsUnderShadows(t *testing.T, db *testdb.DB) {
	t.Helper()
	list := decoded[[]operator.MessageStatus](t, invoke(t, environment(db), "list", "--state", "pending", "--json"))
	if len(list) < 2 {
		t.Fatalf("%d messages are pending, want 2 at least", len(list))
	}
	id := list[0].ID.String()
	for _, args := range [][]string{
		{"status"}, {"status", "--json", "--endpoints", "0"}, {"list", "--newer-than", "1d"}, {"show", id}, {"cancel", id}, {"replay", id},
		{"cancel", id}, {"replay", id, "--url", endpointB}, {"pause", endpointA}, {"resume", endpointA},
		{"limit", endpointA, "--rate", "5"}, {"limit", endpointA, "--none"}, {"status", "--by", "tenant"}, {"migrate", "status", "--json"}, {"migrate", "up"},
	} {
		invoke(t, environment(db), args...).wants(t, exitOK)
		through := append(environment(db), "OUTBOX_POOLER=transaction") // with this, settings last for one transaction
		if args[0] == "status" || args[0] == "list" || args[0] == "show" || args[0] == "limit" {
			invoke(t, through, args...).wants(t, exitOK)
		}
	}
	invoke(t, environment(db), "replay", "--dead", "--endpoint", endpointA).wants(t, exitNotFound)
	invoke(t, environment(db), "migrate", "down").wants(t, exitUsage, "would lose")
}
