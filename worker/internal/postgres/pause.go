package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// An endpoint whose row the database refuses to change is paused, until an operator resumes it. What showed the refusal may
// have passed meanwhile: somebody took a trigger away, or corrected the row. So the change is tried once more, under a lock
// on the row, and only a refusal of this very change pauses the endpoint.

const lockEndpointSQL = `SELECT FROM outbox.endpoint WHERE endpoint = $1 FOR UPDATE`

// stillRefused locks an endpoint's row, if there is one, tries a change of it, and takes the change back.
func stillRefused(ctx context.Context, tx pgx.Tx, lock, endpoint string, try func(pgx.Tx) error, isRefusal func(error) bool) (bool, error) {
	if _, err := tx.Exec(ctx, lock, endpoint); err != nil {
		return false, err
	}
	trial, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		return false, err
	}
	_, err = trial.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE") // they would speak at the commit only
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
