package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// An endpoint whose row the database refuses to change is paused, until an operator resumes it. The cause of the refusal may
// be gone meanwhile: somebody removed a trigger, or corrected the row. So the change is tried once more, under a lock
// on the row, and only a refusal of exactly this change pauses the endpoint.

const lockEndpointSQL = `SELECT FROM outbox.endpoint WHERE endpoint = $1 FOR UPDATE`

// stillRefused locks an endpoint's row, if there is one, tries a change of it, and rolls the change back.
func stillRefused(ctx context.Context, tx pgx.Tx, lock, endpoint string, try func(pgx.Tx) error, isRefusal func(error) bool) (bool, error) {
	if _, err := tx.Exec(ctx, lock, endpoint); err != nil {
		return false, err
	}
	trial, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		return false, err
	}
	_, err = trial.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE") // otherwise they are checked only at the commit
	if err == nil {
		err = try(trial)
	}
	if undone := trial.Rollback(ctx); undone != nil {
		return false, undone
	}
	if err != nil && !isRefusal(err) {
		return false, err
	}
	return err != nil, nil
}
