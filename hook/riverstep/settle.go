package riverstep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
)

// settle commits the decision, or the one that must replace it: the failure of the runner's writes, a cancel from outside. It
// returns what makes River end the job accordingly.
//
// A decision is settled even when the context of the work has ended. Each iteration decides something simpler than the one
// before: a verdict, a failure, a cancel. So there are three at most, except while another session holds a lock: then it
// repeats until the lock is released or the client is stopped. The job is not given back meanwhile, because River would wait
// for the same row, in a statement that also ends the jobs of others.
func (t *taking) settle(work context.Context, d decision) error {
	defer t.metrics.settle.Since(time.Now())
	for {
		err := t.transact(context.WithoutCancel(work), t.jobLog(), func(ctx context.Context, tx pgx.Tx) error {
			return t.settleIn(ctx, tx, d)
		})
		var writes *writesError
		switch {
		case err == nil:
			return t.settled(d)
		case errors.Is(err, errLost):
			// Whatever this returns changes the job, which another worker runs by now. Completing it does the least harm: that
			// worker settles in spite of it; if it does not, the sweep lets the job be tried again.
			t.metrics.settled[settledLost].Add(1)
			t.jobLog().WarnContext(work, "the step was lost to another worker; nothing was written", "dropped", d.err)
			return nil
		case errors.Is(err, errCancelled) && d.regards:
			d = fromOutside()
		case errors.As(err, &writes):
			d = t.fromFailure(work, writes.err)
		case d.writes != nil && refused(err):
			d = t.fromFailure(work, fmt.Errorf("settle: %w", err)) // a fault of the writes can appear at the commit only
		case sqlstate.Of(err) == lockNotAvailable && !t.stopping(work):
			// transact has logged it
		case d.release:
			t.jobLog().WarnContext(work, "a step that failed could not be released; a cancel may take until the next sweep", "error", err)
			return d.err
		default:
			t.metrics.settled[settledNot].Add(1)
			return t.snooze(work, fmt.Errorf("settle: %w", err))
		}
	}
}

// settled is what the worker returns after a decision was committed.
func (t *taking) settled(d decision) error {
	t.metrics.settledAs(d)
	if d.release {
		return d.err
	}
	if !d.next {
		t.config.Wake()
	}
	return t.end(d.job, d.err)
}

func (t *taking) jobLog() *slog.Logger {
	return t.log(t.run).With("job_id", t.job.ID, "attempt", t.job.Attempt)
}

// settleIn is the settling transaction. It locks the job's row, then the run's, as every transaction here does.
func (t *taking) settleIn(ctx context.Context, tx pgx.Tx, d decision) error {
	if err := t.lockJob(ctx, tx, d); err != nil {
		return err
	}
	if d.release {
		ok, err := t.rows.release(ctx, tx, t.run, t.job.AttemptedAt)
		if err != nil || !ok {
			return t.orWhy(ctx, tx, err)
		}
		return nil
	}
	ended := t.run
	if d.next {
		if err := t.goOn(ctx, tx, d); err != nil {
			return err
		}
	} else {
		got, ok, err := t.rows.end(ctx, tx, t.run.Instance, t.job.ID, d.ending)
		if err != nil || !ok {
			return t.orWhy(ctx, tx, err)
		}
		ended = got
	}
	if d.writes != nil {
		if err := t.write(ctx, tx, d.writes); err != nil {
			return &writesError{err}
		}
	}
	if d.next {
		return nil
	}
	return t.tell(ctx, tx, ended, d.ending)
}

// lockJob locks the job's row, completes it if the decision ends it so, and checks that it is still ours.
func (t *taking) lockJob(ctx context.Context, tx pgx.Tx, d decision) error {
	var row *rivertype.JobRow
	var err error
	if d.job == endsCompleted {
		var completed *job
		if completed, err = river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, t.job); err == nil {
			row = completed.JobRow
		}
	} else {
		row, err = t.working(ctx).JobUpdateTx(ctx, tx, t.job.ID, nil)
	}
	switch {
	case errors.Is(err, rivertype.ErrNotFound):
		return errLost
	case err != nil:
		return err
	case !t.holds(row):
		return errLost
	case d.regards && len(decodeMetadata(row.Metadata).CancelAttempted) > 0:
		return errCancelled
	}
	return nil
}

// holds reports whether the row of a job still shows this attempt of this worker. A completed one was completed just now, or by
// a worker that had lost it: River does not check which worker ends a job.
func (t *taking) holds(row *rivertype.JobRow) bool {
	ours := row.Attempt == t.job.Attempt && row.AttemptedAt != nil && t.job.AttemptedAt != nil &&
		row.AttemptedAt.Equal(*t.job.AttemptedAt)
	return ours && (row.State == rivertype.JobStateRunning || row.State == rivertype.JobStateCompleted)
}

// goOn inserts the next step and moves the run to it.
func (t *taking) goOn(ctx context.Context, tx pgx.Tx, d decision) error {
	base := river.InsertOpts{Queue: t.job.Queue, Priority: t.job.Priority, Tags: t.job.Tags}
	if t.config.BegunFirst && t.run.Step == 0 {
		base.Priority = max(1, base.Priority-1)
	}
	if d.delay > 0 {
		now, err := databaseClock(ctx, tx)
		if err != nil {
			return err
		}
		base.ScheduledAt = now.Add(d.delay)
	}
	opts, err := insertOpts(t.run.Instance, t.run.Attempts, base)
	if err != nil {
		return err
	}
	next, err := t.working(ctx).InsertTx(ctx, tx, StepArgs{RunID: t.run.RunID, Instance: t.run.Instance, Step: t.run.Step + 1}, opts)
	if err != nil {
		return err
	}
	ok, err := t.rows.advance(ctx, tx, t.run, next.Job.ID, d.payload)
	if err != nil || !ok {
		return t.orWhy(ctx, tx, err)
	}
	return nil
}

// orWhy returns why a run could not be changed: it is to be cancelled, or another worker has changed it.
func (t *taking) orWhy(ctx context.Context, tx pgx.Tx, err error) error {
	if err != nil {
		return err
	}
	now, err := t.rows.load(ctx, tx, t.run.Instance)
	if errors.Is(err, pgx.ErrNoRows) {
		return errLost
	}
	if err == nil && now.active() && now.JobID == t.job.ID && now.CancelRequested {
		return errCancelled
	}
	if err == nil {
		return errLost
	}
	return err
}

// write runs the runner's own writes; a panic in them is one of the runner's.
func (t *taking) write(ctx context.Context, tx pgx.Tx, writes func(context.Context, pgx.Tx) error) error {
	_, err := t.guarded(ctx, func() (Verdict, error) { return Verdict{}, writes(ctx, lent{tx}) })
	return err
}

// The delays before a step that could not be settled is tried again.
const (
	snoozeFirst = time.Second
	snoozeMost  = 5 * time.Minute
)

// snooze makes River try the step again later without counting the attempt: the database or the hook refused, not the runner.
func (t *taking) snooze(ctx context.Context, err error) error {
	delay := snoozeMost
	if n := decodeMetadata(t.job.Metadata).Snoozes; n < 9 {
		delay = min(snoozeFirst<<n, snoozeMost)
	}
	_ = river.MetadataSet(ctx, "riverstep_error", cleantext.Of(err.Error())) // for River UI; the log has it too
	t.config.Logger.ErrorContext(ctx, "a step could not be settled; trying again", "run_id", t.job.Args.RunID,
		"step", t.job.Args.Step, "job_id", t.job.ID, "in", delay, "error", err)
	return river.JobSnooze(delay)
}
