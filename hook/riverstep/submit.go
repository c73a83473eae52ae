package riverstep

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Submitted says which run a submission started or found.
type Submitted struct {
	RunID    string
	Instance string
	New      bool // false: the run was active already, with the same input
}

// Submit starts a run. While a run of this id is active, a submission with the same input returns that run, whose headers and
// other settings stay; one with another input is [ErrConflict]. Once the run has ended, the id begins a new run.
func (s *Steps) Submit(ctx context.Context, spec RunSpec) (submitted Submitted, err error) {
	spec, err = s.config.normal(spec)
	if err != nil {
		return submitted, fmt.Errorf("submit: %w", err)
	}
	err = s.transact(ctx, s.config.Logger.With("run_id", spec.ID), func(ctx context.Context, tx pgx.Tx) error {
		submitted, err = s.submit(ctx, tx, spec)
		return err
	})
	if err != nil {
		return Submitted{}, fmt.Errorf("submit: %w", err)
	}
	return submitted, nil
}

// SubmitTx is [Steps.Submit] in the caller's transaction: the run exists once that is committed. A second submission of
// the same id waits for it.
func (s *Steps) SubmitTx(ctx context.Context, tx pgx.Tx, spec RunSpec) (submitted Submitted, err error) {
	spec, err = s.config.normal(spec)
	if err == nil {
		submitted, err = s.submit(ctx, tx, spec)
	}
	if err != nil {
		return Submitted{}, fmt.Errorf("submit: %w", err)
	}
	return submitted, nil
}

const undefinedTable = "42P01"

// lookAgainMax bounds how often Submit reads again a run that ends and begins meanwhile.
const lookAgainMax = 100

func (s *Steps) submit(ctx context.Context, tx pgx.Tx, spec RunSpec) (Submitted, error) {
	client, err := s.bound()
	if err != nil {
		return Submitted{}, err
	}
	for range lookAgainMax {
		instance := outbox.NewID()
		inserted, err := s.rows.insert(ctx, tx, instance, spec)
		if sqlstate.Of(err) == undefinedTable {
			err = fmt.Errorf("schema %s lacks the table riverstep_run; run 'outbox-worker migrate up', or name the schema that was migrated: %w", s.config.Schema, err)
		}
		if err != nil {
			return Submitted{}, err
		}
		if inserted {
			return Submitted{spec.ID, instance.String(), true}, s.insertFirst(ctx, tx, client, instance, spec)
		}
		instance, _, input, err := s.rows.activeOf(ctx, tx, spec.ID)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue // it has just ended
		case err != nil:
			return Submitted{}, err
		case !bytes.Equal(input, hash(spec.Input)):
			return Submitted{}, fmt.Errorf("%w: ID is %q", ErrConflict, spec.ID)
		}
		return Submitted{spec.ID, instance.String(), false}, nil
	}
	return Submitted{}, fmt.Errorf("run %q keeps ending and beginning again; try again", spec.ID)
}

func (s *Steps) insertFirst(ctx context.Context, tx pgx.Tx, client *river.Client[pgx.Tx], instance outbox.ID, spec RunSpec) error {
	base := river.InsertOpts{Queue: s.config.Queue, Priority: spec.Priority}
	if !spec.RunAt.IsZero() {
		now, err := databaseClock(ctx, tx)
		if err != nil {
			return err
		}
		if spec.RunAt.After(now) { // River's scheduler can take five seconds for a job with a time, even a past one
			base.ScheduledAt = spec.RunAt
		}
	}
	opts, err := insertOpts(instance, spec.Attempts, base)
	if err != nil {
		return err
	}
	inserted, err := client.InsertTx(ctx, tx, StepArgs{RunID: spec.ID, Instance: instance}, opts)
	if sqlstate.Of(err) == undefinedTable {
		err = fmt.Errorf("the schema of the River client lacks River's tables; migrate them (package rivermigrate), or name the schema that was migrated in river.Config: %w", err)
	}
	if err != nil {
		return err
	}
	return s.rows.setJob(ctx, tx, instance, inserted.Job.ID)
}
