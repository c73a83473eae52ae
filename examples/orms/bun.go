package orms

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// AcknowledgeBun passes the *sql.Tx that bun's transaction holds. ExecTx(tx) would not do: bun writes the arguments into the text,
// and knows no $1.
func AcknowledgeBun(ctx context.Context, db *bun.DB, terminal hook.TerminalHook, outcome outbox.RunOutcome) error {
	return db.RunInTx(ctx, &sql.TxOptions{}, func(ctx context.Context, tx bun.Tx) error {
		result, err := tx.NewUpdate().Table("steps").Set("state = 'done'").
			Where("run_id = ? AND state = 'ready'", outcome.RunID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errNotReady
		}
		return terminal.OnTermination(ctx, outbox.SQLTx(tx.Tx), outcome) // an error rolls both back
	})
}
