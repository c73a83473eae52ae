package orms

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// AcknowledgeSQLX passes the *sql.Tx that sqlx's transaction holds.
func AcknowledgeSQLX(ctx context.Context, db *sqlx.DB, terminal hook.TerminalHook, outcome outbox.RunOutcome) error {
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	result, err := tx.NamedExecContext(ctx, `UPDATE steps SET state = 'done' WHERE run_id = :run AND state = 'ready'`,
		map[string]any{"run": outcome.RunID})
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errNotReady
	}
	if err := terminal.OnTermination(ctx, outbox.SQLTx(tx.Tx), outcome); err != nil {
		return err
	}
	return tx.Commit()
}
