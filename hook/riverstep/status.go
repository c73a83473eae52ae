package riverstep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// State is [Active], or a terminal status.
type State string

// The states of a run.
const (
	Active    State = "active"
	Succeeded       = State(outbox.Succeeded)
	Failed          = State(outbox.Failed)
	Cancelled       = State(outbox.Cancelled)
)

// RunStatus is the state of a run and what belongs to it.
type RunStatus struct {
	RunID       string
	Instance    string
	State       State
	Step        uint32     // the current step, or the one that ended the run
	Result      []byte     // Succeeded only; nil when it was over outbox.ResultBytesKept
	Error       string     // Failed: the reason. Cancelled: the reason, or "" when cancelled from outside
	Cancelling  bool       // a cancel was requested, and its running step has not returned yet
	SubmittedAt time.Time  // the database's clock
	EndedAt     *time.Time // nil while active
}

// Status returns the status of the latest run of an id. It returns [ErrNotFound] when there is none.
func (s *Steps) Status(ctx context.Context, runID string) (RunStatus, error) {
	got, err := s.status(ctx, `WHERE run_id OPERATOR(pg_catalog.=) $1
ORDER BY status OPERATOR(pg_catalog.=) 'active' DESC, submitted_at DESC LIMIT 1`, runID)
	if err != nil {
		return got, fmt.Errorf("status: run %q: %w", runID, err)
	}
	return got, nil
}

func (s *Steps) status(ctx context.Context, where string, arg any) (got RunStatus, err error) {
	var instance outbox.ID
	var reason []byte
	var submitted int64
	var ended *int64
	err = s.db.QueryRow(ctx, s.rows.in(`SELECT run_id, instance, status, step, `+base64Of("result")+`, `+base64Of(utf8Of("error"))+`,
       status OPERATOR(pg_catalog.=) 'active' AND cancel_requested_at IS NOT NULL, `+micros("submitted_at")+`, `+micros("ended_at")+`
FROM outbox.riverstep_run `)+where, arg).Scan(&got.RunID, &instance, &got.State, &got.Step, (*base64Bytes)(&got.Result),
		(*base64Bytes)(&reason), &got.Cancelling, &submitted, &ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return RunStatus{}, ErrNotFound
	}
	got.Instance, got.Error, got.SubmittedAt = instance.String(), string(reason), time.UnixMicro(submitted)
	if ended != nil {
		at := time.UnixMicro(*ended)
		got.EndedAt = &at
	}
	return got, err
}

// The intervals at which Wait reads the row: short at first, then longer.
const (
	waitFirst = 10 * time.Millisecond
	waitMost  = time.Second
)

// Wait returns how the latest run of an id ended, once it has. It reads the row of the run at growing intervals of at most a
// second, and holds no connection in between. It waits for the run that it found first, even when another one of the same id
// begins.
func (s *Steps) Wait(ctx context.Context, runID string) (RunStatus, error) {
	got, err := s.Status(ctx, runID)
	for interval := waitFirst; err == nil && got.State == Active; interval = min(interval*3/2, waitMost) {
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return got, fmt.Errorf("wait: run %q: %w", runID, ctx.Err())
		case <-timer.C:
		}
		got, err = s.status(ctx, `WHERE instance OPERATOR(pg_catalog.=) $1`, got.Instance)
	}
	if err != nil {
		return got, fmt.Errorf("wait: run %q: %w", runID, err)
	}
	return got, nil
}
