package riverstep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

// hold locks rows, as a forgotten psql session does, until release is called or the test ends.
func (r *rig) hold(sql string, args ...any) (release func()) {
	r.t.Helper()
	tx, err := r.db.NewPool(r.t, nil).Begin(context.Background())
	must(r.t, err)
	tag, err := tx.Exec(r.t.Context(), r.in(sql), args...)
	must(r.t, err)
	if tag.RowsAffected() == 0 {
		r.t.Fatal("the statement locked no row, want one")
	}
	once := sync.OnceFunc(func() { must(r.t, tx.Rollback(context.Background())) })
	r.t.Cleanup(once)
	return once
}

const (
	holdRun = `SELECT FROM outbox.riverstep_run WHERE run_id = $1 FOR UPDATE`
	holdJob = `SELECT FROM outbox.river_job WHERE kind = 'workflow_step' AND args->>'run_id' = $1 FOR UPDATE`
)

func TestALockedRowDelaysOnlyItsRun(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{"of the run": holdRun, "of the job": holdJob} {
		for how, busy := range map[string]error{"succeeds": nil, "returns an error": errors.New("busy")} {
			t.Run(name+", whose step "+how, func(t *testing.T) {
				t.Parallel()
				running, goOn := make(chan struct{}), make(chan struct{})
				log := &lines{}
				r := newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
					switch {
					case s.RunID == "held" && s.Attempt == 1:
						close(running)
						<-goOn
						return riverstep.Succeed(nil), busy
					case s.Attempt == 1:
						return riverstep.Verdict{}, errors.New("one failure, which River records before the next attempt")
					}
					return riverstep.Succeed(nil), nil
				}), func(c *riverstep.Config, rc *river.Config) {
					c.Logger, c.SettleTimeout = slog.New(slog.NewTextHandler(log, nil)), time.Second
					c.Timeout = 2 * time.Second // the step's own timeout does not end the wait
				})
				r.start()
				r.submit(riverstep.RunSpec{ID: "held", Attempts: 3})
				<-running
				release := r.hold(sql, "held")
				close(goOn)
				r.until(func() bool { return len(log.with("another session is in the way")) > 3 })
				for i := range 20 {
					r.submit(riverstep.RunSpec{ID: fmt.Sprint("free-", i)})
				}
				for i := range 20 {
					if got := r.wait(fmt.Sprint("free-", i)); got.State != riverstep.Succeeded {
						t.Errorf("the run is %+v, want succeeded", got)
					}
				}
				if said := log.with("another session is in the way"); !strings.Contains(said[0], "run_id=held") || !strings.Contains(said[0], "sqlstate=55P03") {
					t.Errorf("the log is %q, want the run \"held\" and the SQLSTATE in it", said[0])
				}
				release()
				want := 1
				if busy != nil {
					want = 2
				}
				if got := r.wait("held"); got.State != riverstep.Succeeded || r.callsOf("held") != want {
					t.Errorf("the run is %+v after %d calls, want succeeded after %d", got, r.callsOf("held"), want)
				}
			})
		}
	}
}

func TestALockedRowDoesNotDelayTheClientsStop(t *testing.T) {
	t.Parallel()
	var r *rig
	log := &lines{}
	r = newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if s.Attempt == 1 && r.callsOf(s.RunID) == 1 {
			r.hold(holdRun, s.RunID)
		}
		return riverstep.Succeed(nil), nil
	}), func(c *riverstep.Config, _ *river.Config) {
		c.Logger, c.SettleTimeout = slog.New(slog.NewTextHandler(log, nil)), time.Second
	})
	must(t, r.client.Start(context.Background()))
	r.submit(riverstep.RunSpec{ID: runID})
	r.until(func() bool { return len(log.with("another session is in the way")) > 1 })
	r.stop() // fails the test if it does not end
	if got := r.stepState(); got == "running" {
		t.Errorf("the job is %s, want it not running", got)
	}
}

func TestTheSweepSkipsLockedRows(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{"a run": holdRun, "a job": holdJob} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &lines{}
			r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) {
				c.SweepInterval, c.Logger = 100*time.Millisecond, slog.New(slog.NewTextHandler(log, nil))
			})
			for _, id := range []string{"a", "b", "c"} { // in the sweep's order
				r.submit(riverstep.RunSpec{ID: id})
			}
			r.execute(r.in(`UPDATE outbox.river_job SET state = 'cancelled', finalized_at = now()`))
			release := r.hold(sql, "a")
			r.start()
			for _, id := range []string{"b", "c"} {
				if got := r.wait(id); got.State != riverstep.Cancelled {
					t.Errorf("the run is %+v, want cancelled", got)
				}
			}
			r.until(func() bool { return len(log.with(`run \"a\"`)) > 0 })
			if said := log.with(`run \"a\"`); !strings.Contains(said[0], "55P03") {
				t.Errorf("the log is %q, want the SQLSTATE of the lock", said[0])
			}
			release()
			if got := r.wait("a"); got.State != riverstep.Cancelled {
				t.Errorf("the run is %+v, want cancelled", got)
			}
		})
	}
}

func TestAJobThatRiverCannotReadDoesNotStopTheSweep(t *testing.T) {
	t.Parallel()
	log := &lines{}
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) {
		c.SweepInterval, c.Logger = 100*time.Millisecond, slog.New(slog.NewTextHandler(log, nil))
	})
	for _, id := range []string{"a", "b", "c"} {
		r.submit(riverstep.RunSpec{ID: id})
	}
	r.execute(r.in(`UPDATE outbox.river_job SET state = 'cancelled', 
finalized_at = CASE WHEN args->>'run_id' = 'b' THEN 'infinity' ELSE now() END`))
	r.start()
	for _, id := range []string{"a", "c"} {
		if got := r.wait(id); got.State != riverstep.Cancelled {
			t.Errorf("the run is %+v, want cancelled", got)
		}
	}
	r.until(func() bool { return len(log.with(`run \"b\"`)) > 0 })
}

func TestPruningSkipsLockedRowsAndRowsThatCannotBeDeleted(t *testing.T) {
	t.Parallel()
	log := &lines{}
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) {
		c.Retention, c.SweepInterval, c.Logger = time.Second, 100*time.Millisecond, slog.New(slog.NewTextHandler(log, nil))
	})
	r.execute(r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, status, job_end, ended_at)
SELECT gen_random_uuid(), 'run-' || n, 1, '', 'succeeded', 'completed', now() - interval '1 day' + n * interval '1 s' FROM generate_series(1, 2500) n`))
	r.execute(r.in(`CREATE TABLE outbox.receipt (instance uuid REFERENCES outbox.riverstep_run)`)) // a table of the service
	r.execute(r.in(`INSERT INTO outbox.receipt SELECT instance FROM outbox.riverstep_run WHERE run_id IN ('run-3', 'run-1500')`))
	release := r.hold(holdRun, "run-7")
	r.start()
	left := func() string {
		return one[string](t, r.db.Pool, r.in(`SELECT coalesce(string_agg(run_id, ' ' ORDER BY ended_at), '') FROM outbox.riverstep_run`))
	}
	r.until(func() bool { return left() == "run-3 run-7 run-1500" })
	release()
	r.until(func() bool { return left() == "run-3 run-1500" })
	r.until(func() bool {
		return slices.ContainsFunc(log.with("23503"), func(line string) bool { return strings.Count(line, "remove the ended run") == 2 })
	})
}

func TestTheErrorOfACancelThatMeetsALockHasItsSQLSTATE(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.SettleTimeout = 3 * time.Second })
	r.submit(riverstep.RunSpec{ID: runID})
	release := r.hold(holdRun, runID)
	var pgErr *pgconn.PgError
	if err := r.steps.Cancel(t.Context(), runID); !errors.As(err, &pgErr) || pgErr.Code != "55P03" {
		t.Errorf("Cancel returns %v, want SQLSTATE 55P03", err)
	}
	release()
	must(t, r.steps.Cancel(t.Context(), runID))
}

// On the client's side the context bounds a transaction. For a client that has gone silent, the server bounds it.
func TestTheServerReleasesTheLocksOfASilentClient(t *testing.T) {
	t.Parallel()
	settling, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newRig(t, always(riverstep.Succeed(nil).With(func(context.Context, pgx.Tx) error {
		once.Do(func() { close(settling) })
		<-goOn // it ignores its context, so the connection stays open
		return nil
	}), nil), func(c *riverstep.Config, _ *river.Config) { c.SettleTimeout = time.Second })
	defer close(goOn)
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	<-settling
	r.hold(holdJob, runID)() // returns when the server has ended the silent session
}

func TestAfterADeadlockNoStepRunsAgain(t *testing.T) {
	t.Parallel()
	var r *rig
	var both sync.WaitGroup
	both.Add(2)
	meet := map[string]*sync.Once{"ab": {}, "ba": {}}
	r = newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		return riverstep.Succeed(nil).With(func(ctx context.Context, tx pgx.Tx) error {
			for i, key := range []string{s.RunID[:1], s.RunID[1:]} {
				if _, err := tx.Exec(ctx, r.in(`UPDATE outbox.stock SET n = n + 1 WHERE key = $1`), key); err != nil {
					return err
				}
				if i == 0 {
					meet[s.RunID].Do(func() { both.Done(); both.Wait() })
				}
			}
			return nil
		}), nil
	}), nil)
	r.execute(r.in(`CREATE TABLE outbox.stock (key text PRIMARY KEY, n int)`))
	r.execute(r.in(`INSERT INTO outbox.stock VALUES ('a', 0), ('b', 0)`))
	r.start()
	for id := range meet {
		r.submit(riverstep.RunSpec{ID: id, Attempts: 1})
	}
	for id := range meet {
		if got := r.wait(id); got.State != riverstep.Succeeded || r.callsOf(id) != 1 {
			t.Errorf("the run is %+v after %d calls, want succeeded after 1", got, r.callsOf(id))
		}
	}
	if n := one[int](t, r.db.Pool, r.in(`SELECT sum(n) FROM outbox.stock`)); n != 4 {
		t.Errorf("%d writes, want 4", n)
	}
}
