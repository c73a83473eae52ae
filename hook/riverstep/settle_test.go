package riverstep_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// echo succeeds with its payload.
func echo() riverstep.Runner {
	return riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		return riverstep.Succeed(s.Payload), nil
	})
}

// book inserts a row into the service's own table.
func book(schema, text string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO "+schema+".book (entry) VALUES ($1)", text)
		return err
	}
}

func (r *rig) book() string {
	r.t.Helper()
	return one[string](r.t, r.db.Pool, "SELECT coalesce(string_agg(entry, ',' ORDER BY n), '') FROM "+r.db.Schema+".book")
}

func (r *rig) createBook() {
	r.t.Helper()
	r.execute("CREATE TABLE " + r.db.Schema + ".book (n bigserial, entry text UNIQUE)")
}

func TestTheRunnersWritesAreCommittedWithTheStepOrNotAtAll(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		in := func(text string) func(context.Context, pgx.Tx) error { return book(r.db.Schema, text) }
		switch {
		case s.Number == 0:
			return riverstep.Continue(nil).With(in("zero")).With(in("and more")), nil
		case s.Attempt == 1: // the writes return an error
			return riverstep.Succeed(nil).With(in("never")).With(func(context.Context, pgx.Tx) error { return errors.New("no") }), nil
		case s.Attempt == 2: // the writes panic
			return riverstep.Succeed(nil).With(in("never")).With(func(context.Context, pgx.Tx) error { panic("no") }), nil
		case s.Attempt == 3: // the writes ignore an error of the database
			return riverstep.Succeed(nil).With(func(ctx context.Context, tx pgx.Tx) error {
				_ = in("zero")(ctx, tx)
				return nil
			}), nil
		case s.Attempt == 4: // the writes try to end the transaction
			return riverstep.Succeed(nil).With(in("never")).With(func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }), nil
		}
		return riverstep.Succeed(nil).With(in("one")), nil
	}), nil)
	r.createBook()
	r.start()
	r.submit(riverstep.RunSpec{ID: runID, Attempts: 5})
	if got := r.wait(runID); got.State != riverstep.Succeeded || got.Step != 1 {
		t.Errorf("the run is %+v, want succeeded at step 1", got)
	}
	if got := r.book(); got != "zero,and more,one" {
		t.Errorf("the book holds %q, want zero, and more, one", got)
	}
	if job := r.job(runID); job.Attempt != 5 || len(job.Errors) != 4 {
		t.Errorf("the job is at attempt %d with the errors %+v, want attempt 5 with 4 errors", job.Attempt, job.Errors)
	}
}

func TestWritesWithAPermanentErrorFailTheRunAndAreRolledBack(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, riverstep.RunnerFunc(func(context.Context, riverstep.Step) (riverstep.Verdict, error) {
		return riverstep.Succeed(nil).With(book(r.db.Schema, "never")).With(func(context.Context, pgx.Tx) error {
			return riverstep.Permanent(errors.New("the book is closed"))
		}), nil
	}), nil)
	r.createBook()
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	got := r.wait(runID)
	if got.State != riverstep.Failed || got.Error != "the book is closed" || r.book() != "" || r.job(runID).State != rivertype.JobStateDiscarded {
		t.Errorf("the run is %+v, and the book holds %q; want failed, and nothing", got, r.book())
	}
}

func TestAWorkerThatLostItsJobSettlesNothingAndWritesNothing(t *testing.T) {
	t.Parallel()
	var r *rig
	first, second := make(chan struct{}), make(chan struct{})
	var taken atomic.Int32
	r = newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if taken.Add(1) == 1 {
			close(first)
			<-second
			return riverstep.Succeed([]byte("stale")).With(book(r.db.Schema, "stale")), nil
		}
		close(second)
		// Until the first worker has returned. River then completes our job, because it does not check whose job it is.
		r.until(func() bool { return r.stepState() != "running" })
		return riverstep.Succeed([]byte("fresh")).With(book(r.db.Schema, "fresh")), nil
	}), nil)
	r.createBook()
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	<-first
	// River's rescuer does this to a job whose worker seems to be dead.
	r.execute(r.in("UPDATE outbox.river_job SET state = 'available' WHERE kind = 'workflow_step'"))
	got := r.wait(runID)
	if string(got.Result) != "fresh" || r.book() != "fresh" || len(r.messages(runID)) != 1 {
		t.Errorf("the run is %+v, the book holds %q, and there are %d messages; want the second worker's result and write, and one message", got, r.book(), len(r.messages(runID)))
	}
}

func TestAStepWhoseJobOthersCompletedIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.SweepInterval = 100 * time.Millisecond })
	r.submit(riverstep.RunSpec{ID: runID, Input: []byte("in")})
	r.execute("UPDATE " + r.db.Schema + ".river_job SET state = 'completed', finalized_at = now()")
	r.start()
	if got := r.wait(runID); string(got.Result) != "in" {
		t.Errorf("the run is %+v, want the result in", got)
	}
}

func TestAnOutcomeThatCannotBeRecordedIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	refuse := &refusing{}
	refuse.times.Store(2)
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { refuse.TerminalHook, c.Hook = c.Hook, refuse })
	r.start()
	r.submit(riverstep.RunSpec{ID: runID, Attempts: 1})
	got := r.wait(runID)
	job := r.job(runID)
	if got.State != riverstep.Succeeded || job.Attempt != 1 || len(r.calls.all()) != 3 || len(r.messages(runID)) != 1 {
		t.Errorf("the run is %+v at attempt %d after %d calls, want succeeded at attempt 1 after 3", got, job.Attempt, len(r.calls.all()))
	}
	if !strings.Contains(string(job.Metadata), "the hook refuses") {
		t.Errorf("the job's metadata is %s, want the hook's error", job.Metadata)
	}
}

func TestASoftStopTakesTheAttemptBack(t *testing.T) {
	t.Parallel()
	running := make(chan struct{}, 1)
	r := newRig(t, riverstep.RunnerFunc(func(ctx context.Context, _ riverstep.Step) (riverstep.Verdict, error) {
		running <- struct{}{}
		<-ctx.Done()
		return riverstep.Verdict{}, errors.New("something that does not say why")
	}), nil)
	must(t, r.client.Start(context.Background()))
	r.submit(riverstep.RunSpec{ID: runID, Attempts: 1})
	<-running
	r.stop()
	if got, err := r.steps.Status(t.Context(), runID); err != nil || got.State != riverstep.Active {
		t.Errorf("after the stop the run is %+v, %v; want active", got, err)
	}
	again := newRigOn(t, r.db, echo(), nil)
	again.start()
	if got := again.wait(runID); got.State != riverstep.Succeeded {
		t.Errorf("after the restart the run is %+v, want succeeded", got)
	}
}

func TestACancelBetweenTwoAttemptsEndsTheRunAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, always(riverstep.Verdict{}, errors.New("busy")), func(_ *riverstep.Config, rc *river.Config) { rc.RetryPolicy = late{} })
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	r.until(func() bool { return r.stepState() == "retryable" })
	must(t, r.steps.Cancel(t.Context(), runID))
	if got, err := r.steps.Status(t.Context(), runID); err != nil || got.State != riverstep.Cancelled || len(r.messages(runID)) != 1 {
		t.Errorf("the run is %+v, %v; want cancelled, with one message", got, err)
	}
}

func TestAJobOfASettledRunThatRunsAgainOnlyEndsAgain(t *testing.T) {
	t.Parallel()
	for want, runner := range map[rivertype.JobState]riverstep.Runner{
		rivertype.JobStateDiscarded: always(riverstep.Verdict{}, riverstep.Permanent(errors.New("for good"))),
		rivertype.JobStateCompleted: always(riverstep.Fail("for good"), nil),
	} {
		r := newRig(t, runner, nil)
		r.start()
		r.submit(riverstep.RunSpec{ID: runID})
		r.wait(runID)
		id := r.job(runID).ID
		_, err := r.client.JobRetry(t.Context(), id) // as in River UI
		must(t, err)
		if job := r.job(runID); job.State != want || len(r.calls.all()) != 1 || len(r.messages(runID)) != 1 {
			t.Errorf("want the job %s, after one call and with one message; it is %s after %d calls with %d messages", want, job.State, len(r.calls.all()), len(r.messages(runID)))
		}
	}
}

func TestAnEndedRunIsNeverChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	r.wait(runID)
	_, err := r.db.Pool.Exec(t.Context(), "UPDATE "+r.db.Schema+".riverstep_run SET status = 'failed', error = 'x', result = NULL")
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.ConstraintName != "riverstep_run_ends_once" {
		t.Errorf("the update returns %v, want the constraint riverstep_run_ends_once", err)
	}
	r.stop()
	pruning := newRigOn(t, r.db, echo(), func(c *riverstep.Config, _ *river.Config) {
		c.Retention, c.SweepInterval = time.Second, 100*time.Millisecond
	})
	pruning.start()
	r.until(func() bool {
		_, err := r.steps.Status(t.Context(), runID)
		return errors.Is(err, riverstep.ErrNotFound) // it was pruned
	})
}

// late is a retry policy that retries after an hour.
type late struct{}

func (late) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(time.Hour) }

// refusing is a hook that returns an error some times, and then succeeds.
type refusing struct {
	hook.TerminalHook
	times atomic.Int32
}

func (r *refusing) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	if r.times.Add(-1) >= 0 {
		return errors.New("the hook refuses")
	}
	return r.TerminalHook.OnTermination(ctx, tx, o)
}
