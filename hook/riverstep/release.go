package riverstep

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// release gives a step back to River with an error, to be tried again. It first says in the run's row that nothing runs
// any more, so that a cancel that comes before River has taken note ends the run at once; one that came earlier does so
// here.
func (t *taking) release(work context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), t.config.SettleTimeout)
	defer cancel()
	err := t.transact(ctx, func(tx pgx.Tx) error {
		row, err := t.working(ctx).JobUpdateTx(ctx, tx, t.job.ID, nil)
		switch {
		case errors.Is(err, rivertype.ErrNotFound):
			return errLost
		case err != nil:
			return err
		case !t.holds(row):
			return errLost
		case len(decodeMetadata(row.Metadata).CancelAttempted) > 0:
			return errCancelled
		}
		ok, err := t.rows.release(ctx, tx, t.run, t.job.AttemptedAt)
		if err == nil && !ok {
			err = t.orWhy(ctx, tx, nil)
		}
		return err
	})
	switch {
	case errors.Is(err, errLost):
		t.log(t.run).WarnContext(ctx, "the step was lost to another worker; its error is dropped",
			"attempt", t.job.Attempt, "error", why)
		return nil
	case errors.Is(err, errCancelled):
		return t.settle(work, fromOutside())
	case err != nil:
		t.log(t.run).WarnContext(ctx, "a step that failed could not be released; a cancel may take until the next sweep", "error", err)
	}
	return why
}

// The waits before a step is taken up again that could not be settled.
const (
	snoozeFirst = time.Second
	snoozeMost  = 5 * time.Minute
)

// snooze has the step taken up again later, without counting the attempt: what refused was the database or the hook.
func (t *taking) snooze(ctx context.Context, err error) error {
	delay := snoozeMost
	if n := decodeMetadata(t.job.Metadata).Snoozes; n < 9 {
		delay = min(snoozeFirst<<n, snoozeMost)
	}
	_ = river.MetadataSet(ctx, "riverstep_error", clean(err.Error())) // for River UI; the log has it too
	t.config.Logger.ErrorContext(ctx, "a step could not be settled; trying again", "run_id", t.job.Args.RunID,
		"step", t.job.Args.Step, "job_id", t.job.ID, "in", delay, "error", err)
	return river.JobSnooze(delay)
}
