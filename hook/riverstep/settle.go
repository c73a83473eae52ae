package riverstep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// jobEnd is the state in which a run's last job ends.
type jobEnd string

const (
	endsCompleted jobEnd = "completed"
	endsDiscarded jobEnd = "discarded"
	endsCancelled jobEnd = "cancelled"
)

// decision is what is to be settled: the next step, or an ending.
type decision struct {
	next    bool
	payload []byte
	delay   time.Duration
	ending
	err    error // what River is told, when the job does not end as completed
	writes func(context.Context, pgx.Tx) error
}

func fromOutside() decision {
	return decision{ending: ending{status: outbox.Cancelled, job: endsCancelled}, err: errCancelled}
}

func fromError(err error) decision {
	return decision{ending: ending{status: outbox.Failed, reason: err.Error(), job: endsDiscarded, regards: true}, err: err}
}

func (t *taking) fromVerdict(v Verdict) decision {
	switch {
	case v.next && len(v.payload) > t.config.InputBytesMax:
		return fromError(fmt.Errorf("payload of Continue: %d bytes, the limit is %d", len(v.payload), t.config.InputBytesMax))
	case !v.next && v.status == "":
		return fromError(errors.New("the runner returned neither a verdict nor an error"))
	}
	return decision{
		next: v.next, payload: v.payload, delay: v.delay, writes: v.writes,
		ending: ending{
			status: v.status, result: v.result, reason: v.reason, job: endsCompleted,
			regards: v.next || v.status != outbox.Cancelled, // the runner's own Cancel wins
		},
	}
}

// settle commits the decision, or what must take its place: a cancel from outside, an error of the runner's writes. It
// returns what makes River end the job accordingly.
//
// The work's context may have ended; a verdict is settled all the same.
func (t *taking) settle(work context.Context, d decision) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), t.config.SettleTimeout)
	defer cancel()
	err := t.transact(ctx, func(tx pgx.Tx) error { return t.settleIn(ctx, tx, d) })
	var writes *writesError
	switch {
	case err == nil:
		if !d.next {
			t.config.Wake()
		}
		return t.end(d.job, d.err)
	case errors.Is(err, errLost):
		// Nothing that is returned leaves a job alone that runs elsewhere by now; to complete it harms least. Whoever
		// runs it settles all the same, and if he does not, the sweep has the job tried again.
		t.log(t.run).WarnContext(ctx, "the step was lost to another worker; nothing was written", "attempt", t.job.Attempt)
		return nil
	case errors.Is(err, errCancelled) && d.regards:
		return t.settle(work, fromOutside())
	case errors.As(err, &writes):
		return t.failed(work, writes.err)
	case d.writes != nil && refused(err):
		return t.failed(work, fmt.Errorf("settle: %w", err)) // what the writes did can show as late as at the commit
	}
	return t.snooze(ctx, fmt.Errorf("settle: %w", err))
}

// settleIn is the settling transaction.
func (t *taking) settleIn(ctx context.Context, tx pgx.Tx, d decision) error {
	if err := t.lockJob(ctx, tx, d); err != nil {
		return err
	}
	ended := t.run
	if d.next {
		if err := t.goOn(ctx, tx, d); err != nil {
			return err
		}
	} else {
		var ok bool
		var err error
		if ended, ok, err = t.rows.end(ctx, tx, t.run.Instance, t.job.ID, d.ending); err != nil || !ok {
			return t.orWhy(ctx, tx, err)
		}
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

// lockJob locks the job's row, completes it if that is its end, and makes sure that it is still ours.
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

// holds reports whether a job's row is still of this taking-up. One that is completed was completed just now, or by a
// worker that had lost it: River does not ask which worker ends a job.
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

// orWhy tells why a run could not be changed: it is to be cancelled, or it has moved on without us.
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

// refused reports an answer of the database that is about what was written, and would be the same the next time.
func refused(err error) bool {
	var pgErr *pgconn.PgError
	return errors.Is(err, pgx.ErrTxCommitRollback) ||
		errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "22") || strings.HasPrefix(pgErr.Code, "23") ||
			strings.HasPrefix(pgErr.Code, "25") || strings.HasPrefix(pgErr.Code, "42") || strings.HasPrefix(pgErr.Code, "P0"))
}
