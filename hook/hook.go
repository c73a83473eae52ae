// Package hook is what an embedding service calls when a run ends.
//
// A [TerminalHook] gets the run's outcome and the transaction that acknowledges the run's last step. What it writes is
// committed with the acknowledgement, or not at all:
//
//	tx, err := pool.Begin(ctx)
//	...                                            // acknowledge the step in tx
//	if err := terminal.OnTermination(ctx, tx, outcome); err != nil {
//		return err                                 // and roll back
//	}
//	err = tx.Commit(ctx)
//	waker.Wake()                                   // optional: saves the wait for the worker's next poll
//
// The caller's duties:
//
//  1. Acknowledge the step in the same transaction, and only if this process still owns the step.
//  2. Roll back when the hook returns an error: an outcome that cannot be recorded must not be acknowledged.
//  3. After a commit whose outcome is unknown (the connection was lost), read the step again before ending the run
//     again, or give the hook a DedupeKey.
//  4. Never wake inside the transaction; see [outbox.Waker].
//
// A hook never keeps a run from ending. Its errors come from the database or from a programming error. What submitters supply
// (a URL that can never be delivered to, a result over the limit) is recorded as a dead message, which an operator sees and can
// replay.
//
// Package hook and package outbox link pgx and the standard library, nothing else.
package hook

import (
	"context"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TerminalHook is called when a run ends, inside the transaction that acknowledges its last step. Implementations write through
// tx only, and neither commit nor roll back.
type TerminalHook interface {
	OnTermination(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) error
}

// NoopTerminalHook records nothing.
type NoopTerminalHook struct{}

// OnTermination does nothing.
func (NoopTerminalHook) OnTermination(context.Context, outbox.Tx, outbox.RunOutcome) error {
	return nil
}

// Multi returns a hook that calls each of the hooks in turn and stops at the first error, because the transaction must then be
// rolled back. Nil hooks are skipped. Without hooks, it records nothing.
//
// When two of its webhook hooks have the same dedupe key for a run, and different URLs, it returns [ErrDedupeCollision]: see
// [DedupeScope].
func Multi(hooks ...TerminalHook) TerminalHook {
	var m multi
	for _, h := range hooks {
		switch h := h.(type) {
		case nil:
		case multi:
			m = append(m, h...) // so that all are seen together
		default:
			m = append(m, h)
		}
	}
	return m
}

type multi []TerminalHook

func (m multi) OnTermination(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) error {
	if err := m.collision(outcome); err != nil {
		return fmt.Errorf("terminal hooks: %w", err)
	}
	for i, h := range m {
		if err := h.OnTermination(ctx, tx, outcome); err != nil {
			return fmt.Errorf("terminal hook %d of %d: %w", i+1, len(m), err)
		}
	}
	return nil
}
