package riverstep_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hostile are settings of a database, a role or a URL that change how a statement reads or what it returns.
var hostile = map[string]string{
	"bytea_output":                  "escape",
	"client_encoding":               "LATIN1",
	"DateStyle":                     "German",
	"default_transaction_isolation": "serializable",
	"default_transaction_read_only": "on",
	"extra_float_digits":            "-15",
	"IntervalStyle":                 "sql_standard",
	"lock_timeout":                  "1",
	"search_path":                   "",
	"standard_conforming_strings":   "off",
	"TimeZone":                      "Asia/Kathmandu",
	"plan_cache_mode":               "force_generic_plan",
}

// pgxRefuses reports whether pgx itself refuses to send queries in this mode with this setting.
func pgxRefuses(mode pgx.QueryExecMode, setting string) bool {
	return mode == pgx.QueryExecModeSimpleProtocol && (setting == "client_encoding" || setting == "standard_conforming_strings")
}

const (
	oddBytes  = "\x00\xff\\é"
	oddHeader = `日本é𝄞 "\`
)

// settingsRig is a service whose own pool has other settings. River's client has a pool without them, because River's own
// statements do not work with all of these settings.
type settingsRig struct {
	*rig
	pool *pgxpool.Pool
}

func newSettingsRig(t *testing.T, mode pgx.QueryExecMode, settings map[string]string, runner riverstep.Runner) settingsRig {
	t.Helper()
	db := testdb.New(t)
	r := settingsRig{rig: &rig{t: t, db: db, calls: &calls{}}}
	r.pool = db.NewPool(t, func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = mode
		for name, value := range settings {
			c.ConnConfig.RuntimeParams[name] = value
		}
	})
	var err error
	r.steps, err = riverstep.New(r.pool, r.calls.count(runner), riverstep.Config{
		Schema: db.Schema, Hook: hook.NoopTerminalHook{}, SweepInterval: 100 * time.Millisecond, Retention: time.Hour,
	})
	must(t, err)
	rc := riverConfig(db.Schema)
	must(t, r.steps.Register(rc))
	r.client, err = river.NewClient(riverpgxv5.New(db.Pool), rc)
	must(t, err)
	r.steps.Bind(r.client)
	return r
}

func TestSettingsOfTheSessionChangeNothing(t *testing.T) {
	t.Parallel()
	// The other two modes, which describe a statement first, encode as CacheStatement does.
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for name, value := range hostile {
			if pgxRefuses(mode, name) {
				continue
			}
			t.Run(fmt.Sprint(mode, "/", name), func(t *testing.T) {
				t.Parallel()
				checkSettings(t, mode, map[string]string{name: value})
			})
		}
	}
}

func checkSettings(t *testing.T, mode pgx.QueryExecMode, settings map[string]string) {
	var seen atomic.Value // the settings that the runner's writes see
	r := newSettingsRig(t, mode, settings, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if s.RunID == "fails" {
			return riverstep.Verdict{}, riverstep.Permanent(errors.New(oddHeader))
		}
		switch {
		case string(s.Payload) != oddBytes || s.Headers["x"] != oddHeader:
			return riverstep.Fail(fmt.Sprintf("step %d got %q %q", s.Number, s.Payload, s.Headers)), nil
		case s.Number == 0 && s.Attempt == 1:
			return riverstep.Verdict{}, errors.New("once") // the step is released, and tried again
		case s.Number == 0:
			return riverstep.Continue(s.Payload), nil
		}
		return riverstep.Succeed(s.Payload).With(func(ctx context.Context, tx pgx.Tx) error {
			current, err := settingsOf(ctx, tx, settings)
			seen.Store(current)
			return err
		}), nil
	}))
	before := time.Now()
	spec := riverstep.RunSpec{Input: []byte(oddBytes), Headers: map[string]string{"x": oddHeader}}
	for _, id := range []string{"succeeds", "fails", "cancelled", "orphan"} {
		spec.ID, spec.RunAt = id, time.Time{}
		if id == "cancelled" {
			spec.RunAt = time.Now().Add(time.Hour)
		}
		r.submit(spec)
		if again := r.submit(spec); again.New { // found by its id and the hash of its input
			t.Errorf("%s: the second submission is %+v, want it found", id, again)
		}
	}
	// As another session reads it.
	if got := one[string](t, r.db.Pool, r.in(`SELECT headers->>'x' FROM outbox.riverstep_run WHERE run_id = 'succeeds'`)); got != oddHeader {
		t.Errorf("the row's header is %q, want it unchanged", got)
	}
	r.execute(r.in(`UPDATE outbox.river_job SET state = 'discarded', finalized_at = now() WHERE args->>'run_id' = 'orphan'`))
	must(t, r.steps.Cancel(t.Context(), "cancelled"))
	r.start()
	for id, want := range map[string]riverstep.RunStatus{
		"succeeds":  {State: riverstep.Succeeded, Step: 1, Result: []byte(oddBytes)},
		"fails":     {State: riverstep.Failed, Error: oddHeader},
		"cancelled": {State: riverstep.Cancelled},
		"orphan":    {State: riverstep.Failed, Error: "the step's job was discarded"},
	} {
		got := r.wait(id)
		if got.State != want.State || got.Error != want.Error || got.Step != want.Step || string(got.Result) != string(want.Result) {
			t.Errorf("the run is %+v, want %+v", got, want)
		}
		if got.SubmittedAt.Before(before.Add(-time.Minute)) || got.EndedAt == nil || got.EndedAt.Before(got.SubmittedAt) || time.Until(*got.EndedAt) > time.Minute {
			t.Errorf("the times of the run are wrong: %+v", got)
		}
	}
	if got := one[string](t, r.db.Pool, r.in(`SELECT error FROM outbox.riverstep_run WHERE run_id = 'fails'`)); got != oddHeader {
		t.Errorf("the row's error is %q, want it unchanged", got)
	}
	if r.callsOf("succeeds") != 3 || r.callsOf("fails") != 1 {
		t.Errorf("the runners were called %d and %d times, want 3 and 1", r.callsOf("succeeds"), r.callsOf("fails"))
	}
	r.execute(r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, status, job_end, ended_at)
SELECT gen_random_uuid(), 'old', 1, '', 'succeeded', 'completed', now() - interval '2 hours'`))
	r.until(func() bool {
		return one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.riverstep_run WHERE run_id = 'old'`)) == 0
	})
	mustBeTheSessions(t, seen.Load(), settings)
}

// mustBeTheSessions checks that the runner's writes saw the session's settings, except those that riverstep sets in its
// transaction.
func mustBeTheSessions(t *testing.T, seen any, settings map[string]string) {
	t.Helper()
	for name, value := range settings {
		switch name {
		case "DateStyle":
			value = "ISO, DMY" // the order of day and month stays
		case "lock_timeout":
			value = "1s"
		}
		if got := seen.(map[string]string)[name]; got != value {
			t.Errorf("the runner's writes see %s = %s, want %s", name, got, value)
		}
	}
	for name, want := range map[string]string{"transaction_isolation": "read committed", "transaction_read_only": "off"} {
		if got := seen.(map[string]string)[name]; got != want {
			t.Errorf("the runner's writes see %s = %s, want %s", name, got, want)
		}
	}
}

func settingsOf(ctx context.Context, tx pgx.Tx, settings map[string]string) (map[string]string, error) {
	current := map[string]string{"transaction_isolation": "", "transaction_read_only": ""}
	for name := range settings {
		current[name] = ""
	}
	for name := range current {
		var value string
		if err := tx.QueryRow(ctx, "SHOW "+name).Scan(&value); err != nil {
			return nil, err
		}
		current[name] = value
	}
	return current, nil
}

func TestInTheCallersTransactionNoSettingIsChanged(t *testing.T) {
	t.Parallel()
	for mode := pgx.QueryExecModeCacheStatement; mode <= pgx.QueryExecModeSimpleProtocol; mode++ {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{}
			for name, value := range hostile {
				switch {
				case pgxRefuses(mode, name), name == "default_transaction_read_only", name == "lock_timeout":
				case name == "DateStyle" && mode >= pgx.QueryExecModeExec: // in these modes River's own statements read dates as text
				default:
					settings[name] = value
				}
			}
			r := newSettingsRig(t, mode, settings, echo())
			spec := riverstep.RunSpec{ID: runID, Input: []byte(oddBytes), Headers: map[string]string{"x": oddHeader}}
			tx, err := r.pool.Begin(t.Context())
			must(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			before, err := settingsOf(t.Context(), tx, settings)
			must(t, err)
			for range 2 {
				_, err := r.steps.SubmitTx(t.Context(), tx, spec)
				must(t, err)
			}
			must(t, r.steps.CancelTx(t.Context(), tx, runID))
			after, err := settingsOf(t.Context(), tx, settings)
			if err != nil || !reflect.DeepEqual(before, after) {
				t.Errorf("the settings before are %v, and after %v, %v; want them unchanged", before, after, err)
			}
			must(t, tx.Commit(t.Context()))
			if got := r.wait(runID); got.State != riverstep.Cancelled {
				t.Errorf("the run is %+v, want cancelled", got)
			}
		})
	}
}

func TestWithSerializableAsTheDefaultNoStepRunsTwice(t *testing.T) {
	t.Parallel()
	const runs = 150
	db := testdb.New(t)
	serializable := *db
	serializable.Pool = db.NewPool(t, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	})
	r := newRigOn(t, &serializable, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if s.Number == 0 {
			return riverstep.Continue(nil), nil
		}
		return riverstep.Succeed(nil), nil
	}), nil)
	for i := range runs {
		r.submit(riverstep.RunSpec{ID: fmt.Sprint("run-", i)})
	}
	r.start()
	for i := range runs {
		r.wait(fmt.Sprint("run-", i))
	}
	if n := len(r.calls.all()); n != 2*runs {
		t.Errorf("%d runs of two steps made %d calls, want two per run", runs, n)
	}
}

// sqlstates is a hook whose statement fails with one SQLSTATE after the other, and then succeeds.
type sqlstates struct {
	hook.TerminalHook
	codes []string
	asked atomic.Int32
}

func (h *sqlstates) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	if n := int(h.asked.Add(1)) - 1; n < len(h.codes) {
		_, err := tx.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN RAISE 'not now' USING ERRCODE = '%s'; END $$`, h.codes[n]))
		return err
	}
	return h.TerminalHook.OnTermination(ctx, tx, o)
}

func TestASettlingThatCollidesIsRetriedWithoutRunningTheStepAgain(t *testing.T) {
	t.Parallel()
	h := &sqlstates{codes: []string{"40001", "40P01", "55P03", "40001"}}
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { h.TerminalHook, c.Hook = c.Hook, h })
	r.start()
	r.submit(riverstep.RunSpec{ID: runID, Attempts: 1})
	got, job := r.wait(runID), r.job(runID)
	if got.State != riverstep.Succeeded || len(r.calls.all()) != 1 || len(r.messages(runID)) != 1 || job.Attempt != 1 {
		t.Errorf("the run is %+v after %d calls, at attempt %d; want succeeded after 1, at attempt 1", got, len(r.calls.all()), job.Attempt)
	}
	h.asked.Store(0)
	r.submit(riverstep.RunSpec{ID: "cancelled", RunAt: time.Now().Add(time.Hour)})
	must(t, r.steps.Cancel(t.Context(), "cancelled"))
}

func TestASerializationFailureInTheCallersTransactionIsReturned(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	r.submit(riverstep.RunSpec{ID: "old"})
	for name, do := range map[string]func(pgx.Tx) error{
		"submit": func(tx pgx.Tx) error {
			r.submit(riverstep.RunSpec{ID: "new"})
			_, err := r.steps.SubmitTx(t.Context(), tx, riverstep.RunSpec{ID: "new"})
			return err
		},
		"cancel": func(tx pgx.Tx) error {
			must(t, r.steps.Cancel(t.Context(), "old"))
			return r.steps.CancelTx(t.Context(), tx, "old")
		},
	} {
		tx, err := r.db.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.Serializable})
		must(t, err)
		_, err = tx.Exec(t.Context(), r.in(`SELECT FROM outbox.riverstep_run`)) // takes the snapshot
		must(t, err)
		err = do(tx)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "40001" {
			t.Errorf("%s returns %v, want SQLSTATE 40001", name, err)
		}
		must(t, tx.Rollback(t.Context()))
	}
}
