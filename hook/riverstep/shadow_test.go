package riverstep_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// plantShadows plants objects in a schema of their own: a function for every function of pg_catalog where that is possible, an
// operator for every operator, and a domain for every type that a cast could name. Each one fails when a statement on
// riverstep_run calls it. For River's statements, each one does what the shadowed object does: these statements do not name
// pg_catalog, and we cannot change them.
const plantShadows = `
CREATE SCHEMA evil;
DO $plant$
DECLARE
	f record;
	made int := 0;
	refuse constant text := $r$IF pg_catalog.strpos(pg_catalog.current_query(), 'riverstep_run') OPERATOR(pg_catalog.>) 0 THEN
		RAISE EXCEPTION 'a planted %s was called'; END IF; $r$;
BEGIN
	FOR f IN
		SELECT p.oid, p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
		       (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) n) AS passed
		FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
	LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f.proname, f.arguments, f.result,
				'BEGIN ' || format(refuse, f.proname) || format('RETURN pg_catalog.%I(%s); END', f.proname, f.passed));
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL; -- of pseudo-types, mostly
		END;
	END LOOP;
	FOR f IN
		SELECT o.oprname, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r, format_type(o.oprresult, NULL) AS result
		FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
	LOOP
		BEGIN
			made := made + 1;
			EXECUTE format('CREATE FUNCTION evil.planted_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', made, f.l, f.r, f.result,
				'BEGIN ' || format(refuse, f.oprname) || format('RETURN $1 OPERATOR(pg_catalog.%s) $2; END', f.oprname));
			EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.planted_%s)', f.oprname, f.l, f.r, made);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	FOR f IN SELECT unnest(ARRAY['text', 'int8', 'uuid', 'bytea', 'timestamptz']) AS name LOOP
		EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (pg_catalog.strpos(pg_catalog.current_query(), ''riverstep_run'') OPERATOR(pg_catalog.=) 0)',
			f.name, f.name);
	END LOOP;
	IF made < 1500 THEN
		RAISE EXCEPTION 'only % shadows were planted', made;
	END IF;
END $plant$`

func TestAPlantedFunctionIsNeverCalled(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t) // the shadows' schema has a fixed name, and there are many shadows
	for mode := pgx.QueryExecModeCacheStatement; mode <= pgx.QueryExecModeSimpleProtocol; mode++ {
		db := testdb.NewAt(t, server.URL())
		if mode == pgx.QueryExecModeCacheStatement {
			_, err := db.Pool.Exec(t.Context(), plantShadows)
			must(t, err)
		}
		t.Run(mode.String(), func(t *testing.T) { checkShadows(t, db, mode) })
	}
}

func checkShadows(t *testing.T, db *testdb.DB, mode pgx.QueryExecMode) {
	hostile := *db
	hostile.Pool = db.NewPool(t, func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = mode
		c.ConnConfig.RuntimeParams["search_path"] = "evil, pg_catalog"
	})
	// A statement that does not name pg_catalog finds the shadows.
	for _, sql := range []string{`SELECT 1 = 1 -- riverstep_run`, `SELECT now() -- riverstep_run`, `SELECT encode('', 'hex') -- riverstep_run`,
		`SELECT '2026-01-01'::timestamptz -- riverstep_run`} {
		if _, err := hostile.Pool.Exec(t.Context(), sql); err == nil {
			t.Fatalf("%s succeeds, want that it calls a shadow", sql)
		}
	}
	r := newRigOn(t, &hostile, riverstep.RunnerFunc(func(ctx context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		switch {
		case s.RunID == "cancelled":
			<-ctx.Done()
			return riverstep.Verdict{}, ctx.Err()
		case s.Attempt == 1:
			return riverstep.Verdict{}, errors.New("once")
		case s.Number == 0:
			return riverstep.Continue(s.Payload), nil
		case s.RunID == "waits":
			return riverstep.ContinueAfter(nil, time.Hour), nil
		case s.RunID == "fails":
			return riverstep.Fail("for good"), nil
		}
		return riverstep.Succeed(s.Payload), nil
	}), func(c *riverstep.Config, _ *river.Config) { c.Hook, c.SweepInterval = nil, 100*time.Millisecond })
	for _, id := range []string{"succeeds", "fails", "cancelled", "orphan", "waits"} {
		r.submit(riverstep.RunSpec{ID: id, Input: []byte("in")})
		r.submit(riverstep.RunSpec{ID: id, Input: []byte("in")})
	}
	plain := rig{t: t, db: db}
	plain.execute(r.in(`UPDATE outbox.river_job SET state = 'discarded', finalized_at = now() WHERE args->>'run_id' = 'orphan'`))
	plain.execute(r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, status, job_end, ended_at)
SELECT gen_random_uuid(), 'old', 1, '', 'succeeded', 'completed', now() - interval '30 days'`))
	r.start()
	r.until(func() bool { return r.callsOf("cancelled") == 1 })
	must(t, r.steps.Cancel(t.Context(), "cancelled"))
	for id, want := range map[string]riverstep.State{
		"succeeds": riverstep.Succeeded, "fails": riverstep.Failed, "cancelled": riverstep.Cancelled, "orphan": riverstep.Failed,
	} {
		if got := r.wait(id); got.State != want {
			t.Errorf("the run is %+v, want %s", got, want)
		}
	}
	r.until(func() bool {
		_, err := r.steps.Status(t.Context(), "old")
		return errors.Is(err, riverstep.ErrNotFound)
	})
	r.until(func() bool { return r.callsOf("waits") == 4 })
	must(t, r.steps.Cancel(t.Context(), "waits"))
	if err := r.steps.Cancel(t.Context(), "waits"); !errors.Is(err, riverstep.ErrEnded) {
		t.Errorf("a second Cancel returns %v, want ErrEnded", err)
	}
}
