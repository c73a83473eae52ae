package orms

import (
	"context"
	"errors"

	"github.com/seed-abbacb8b/epilogue/examples/orms/ent"
	"github.com/seed-abbacb8b/epilogue/examples/orms/ent/step"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// AcknowledgeEnt needs a client that is generated with --feature sql/execquery (ent/generate.go): it gives the transaction
// its ExecContext.
func AcknowledgeEnt(ctx context.Context, client *ent.Client, terminal hook.TerminalHook, outcome outbox.RunOutcome) error {
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	done, err := tx.Step.Update().Where(step.RunID(outcome.RunID), step.State("ready")).SetState("done").Save(ctx)
	if err == nil && done != 1 {
		err = errNotReady
	}
	if err == nil {
		err = terminal.OnTermination(ctx, outbox.ExecTx(tx), outcome)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
