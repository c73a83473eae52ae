package riverstep

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Cancel ends a run from outside, as cancelled without a reason. A run that waits has ended when Cancel returns. A run whose
// step is running ends when its runner returns; the context of the runner is cancelled, in whatever process it runs. Another
// Cancel changes nothing. It returns [ErrNotFound] or [ErrEnded] where there is nothing to cancel.
func (s *Steps) Cancel(ctx context.Context, runID string) error {
	ended := false
	err := s.transact(ctx, s.config.Logger.With("run_id", runID), func(ctx context.Context, tx pgx.Tx) (err error) {
		ended, err = s.cancel(ctx, tx, runID)
		return err
	})
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	if ended {
		s.config.Wake()
	}
	return nil
}

// CancelTx is [Steps.Cancel] in the caller's transaction: nothing is cancelled before that is committed, and the run's
// rows are locked until then.
func (s *Steps) CancelTx(ctx context.Context, tx pgx.Tx, runID string) error {
	if _, err := s.cancel(ctx, tx, runID); err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	return nil
}

func (s *Steps) cancel(ctx context.Context, tx pgx.Tx, runID string) (ended bool, err error) {
	client, err := s.bound()
	if err != nil {
		return false, err
	}
	for range lookAgainMax {
		instance, jobID, _, err := s.rows.activeOf(ctx, tx, runID)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, s.whyNotActive(ctx, tx, runID)
		}
		if err != nil {
			return false, err
		}
		// In a savepoint: if the run has moved on meanwhile, its old job must not be cancelled.
		var done bool
		err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			done, ended, err = s.cancelAt(ctx, tx, client, instance, jobID)
			if err == nil && !done {
				err = errLost
			}
			return err
		})
		if done || err != nil && !errors.Is(err, errLost) {
			return ended, err
		}
	}
	return false, fmt.Errorf("run %q moves on all the time; try again", runID)
}

func (s *Steps) whyNotActive(ctx context.Context, tx pgx.Tx, runID string) error {
	found, err := s.rows.exists(ctx, tx, runID)
	switch {
	case err != nil:
		return err
	case found:
		return fmt.Errorf("run %q: %w", runID, ErrEnded)
	}
	return fmt.Errorf("run %q: %w", runID, ErrNotFound)
}

// cancelAt cancels a run at one of its jobs; done is false when the run has left that job. As everywhere, the job is locked
// first.
func (s *Steps) cancelAt(ctx context.Context, tx pgx.Tx, client *river.Client[pgx.Tx], instance outbox.ID, jobID int64,
) (done, ended bool, err error) {
	job, err := client.JobCancelTx(ctx, tx, jobID)
	if err != nil && !errors.Is(err, rivertype.ErrNotFound) {
		return false, false, err
	}
	if err == nil && job.State == rivertype.JobStateRunning {
		done, err = s.rows.requestCancel(ctx, tx, instance, jobID, job.AttemptedAt)
		if done || err != nil {
			return done, false, err
		}
		returned, err := s.rows.released(ctx, tx, instance, job.AttemptedAt)
		if err != nil || !returned {
			return false, false, err
		}
		// No worker would see the request. River ends the job: it never retries a job that was cancelled.
	}
	e := ending{status: outbox.Cancelled, job: endsCancelled}
	got, done, err := s.rows.end(ctx, tx, instance, jobID, e)
	if err != nil || !done {
		return false, false, err
	}
	return true, true, s.tell(ctx, tx, got, e)
}
