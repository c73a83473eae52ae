package riverstep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// sweeper does the sweep: it ends runs whose job ended without a worker, and removes old ones.
type sweeper struct {
	river.WorkerDefaults[sweepArgs]
	steps *Steps
}

func (w *sweeper) Work(ctx context.Context, _ *river.Job[sweepArgs]) error {
	clockErr := w.steps.compareClocks(ctx) // here too, so that it is known before there is a step to run
	ended, sweepErr := w.steps.sweep(ctx)
	if ended > 0 {
		w.steps.config.Wake()
		w.steps.config.Logger.WarnContext(ctx, "ended runs whose job had ended without a worker", "runs", ended)
	}
	if err := errors.Join(clockErr, sweepErr, w.steps.prune(ctx)); err != nil {
		w.steps.config.Logger.WarnContext(ctx, "the sweep left something for the next one", "error", err)
		return &cleanError{fmt.Errorf("sweep: %w", err)}
	}
	return nil
}

func (s *Steps) compareClocks(ctx context.Context) error {
	asked := time.Now()
	database, err := databaseClock(ctx, s.db)
	if err == nil {
		s.clocks.compare(ctx, s.config.Logger, asked, database, time.Now())
	}
	return err
}

// atJob is a run and the job it is at.
type atJob struct {
	RunID    string
	Instance outbox.ID
	JobID    int64
}

// sweepBatch is how many active runs one query reads.
const sweepBatch = 500

// faults are errors about single rows. The first few are named, the others counted.
type faults struct {
	named []error
	more  int
}

const faultsNamed = 10

func (f *faults) add(format string, args ...any) {
	if len(f.named) == faultsNamed {
		f.more++
		return
	}
	f.named = append(f.named, fmt.Errorf(format, args...))
}

// err joins the faults with an error that ended everything, if there is one.
func (f *faults) err(last error) error {
	all := f.named
	if f.more > 0 {
		all = append(all, fmt.Errorf("and %d more", f.more))
	}
	return errors.Join(append(all, last)...)
}

// sweep walks through the active runs in the order of their ids. When one run cannot be ended, the others still are.
func (s *Steps) sweep(ctx context.Context) (ended int, err error) {
	var f faults
	for last := ""; ; {
		page, err := s.activeAfter(ctx, last)
		if err != nil || len(page) == 0 {
			return ended, f.err(err)
		}
		last = page[len(page)-1].RunID
		orphans, err := s.orphans(ctx, page, &f)
		if err != nil {
			return ended, f.err(err)
		}
		for _, at := range orphans {
			done, err := s.endOrphan(ctx, at)
			if err != nil {
				f.add("run %q: %w", at.RunID, err)
			}
			if done {
				ended++
			}
		}
	}
}

func (s *Steps) activeAfter(ctx context.Context, runID string) ([]atJob, error) {
	found, err := s.db.Query(ctx, s.rows.in(`SELECT run_id, instance, coalesce(job_id, 0) FROM outbox.riverstep_run
WHERE status OPERATOR(pg_catalog.=) 'active' AND run_id OPERATOR(pg_catalog.>) $1 ORDER BY run_id LIMIT $2`), runID, sweepBatch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowToStructByPos[atJob])
}

// orphans returns the runs whose job has ended or is gone. A job that River cannot read fails its whole page: the page is
// halved until that job is alone, and named.
func (s *Steps) orphans(ctx context.Context, page []atJob, f *faults) (orphans []atJob, err error) {
	orphans, err = s.orphansAtOnce(ctx, page)
	switch {
	case err == nil || ctx.Err() != nil || sqlstate.Of(err) != "" || pgconn.SafeToRetry(err):
		return orphans, err // nothing that is about one job
	case len(page) == 1:
		f.add("run %q: job %d: %w", page[0].RunID, page[0].JobID, err)
		return nil, nil
	}
	for _, half := range [][]atJob{page[:len(page)/2], page[len(page)/2:]} {
		found, err := s.orphans(ctx, half, f)
		if err != nil {
			return orphans, err
		}
		orphans = append(orphans, found...)
	}
	return orphans, nil
}

func (s *Steps) orphansAtOnce(ctx context.Context, page []atJob) (orphans []atJob, err error) {
	ids := make([]int64, len(page))
	for i, at := range page {
		ids[i] = at.JobID
	}
	var list *river.JobListResult
	err = s.once(ctx, lockBrief, func(ctx context.Context, tx pgx.Tx) (err error) {
		list, err = s.working(ctx).JobListTx(ctx, tx, river.NewJobListParams().IDs(ids...).First(len(ids)))
		return err
	})
	if err != nil {
		return nil, err
	}
	alive := make(map[int64]bool, len(list.Jobs))
	for _, row := range list.Jobs {
		alive[row.ID] = row.FinalizedAt == nil
	}
	for _, at := range page {
		if !alive[at.JobID] {
			orphans = append(orphans, at)
		}
	}
	return orphans, nil
}

// endOrphan ends a run as its job ended. As everywhere, it locks the job first, then the run.
func (s *Steps) endOrphan(ctx context.Context, at atJob) (ended bool, err error) {
	err = s.once(ctx, lockBrief, func(ctx context.Context, tx pgx.Tx) error {
		row, err := s.working(ctx).JobUpdateTx(ctx, tx, at.JobID, nil)
		if err != nil && !errors.Is(err, rivertype.ErrNotFound) {
			return err
		}
		e := ending{status: outbox.Failed, reason: "the step's job was deleted", job: endsDiscarded}
		switch {
		case err != nil: // gone
		case row.FinalizedAt == nil:
			return nil // alive again
		case row.State == rivertype.JobStateCompleted:
			return s.revive(ctx, tx, at)
		case row.State == rivertype.JobStateCancelled:
			e = ending{status: outbox.Cancelled, job: endsCancelled}
		default:
			e.reason = "the step's job was discarded"
			if n := len(row.Errors); n > 0 {
				e.reason += ": " + row.Errors[n-1].Error
			}
		}
		got, ok, err := s.rows.end(ctx, tx, at.Instance, at.JobID, e)
		if err != nil || !ok {
			return err
		}
		ended = true
		return s.tell(ctx, tx, got, e)
	})
	return ended && err == nil, err
}

// revive lets a step be tried again whose job was completed without being settled, by a worker that had lost it.
func (s *Steps) revive(ctx context.Context, tx pgx.Tx, at atJob) error {
	now, err := s.rows.load(ctx, tx, at.Instance)
	if err != nil || !now.active() || now.JobID != at.JobID {
		return err
	}
	_, err = s.working(ctx).JobRetryTx(ctx, tx, at.JobID)
	return err
}
