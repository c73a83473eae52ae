package hook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Write is [WebhookTerminalHook.OnTermination], and says what it did: a receipt for each URL of the run, or one with
// [outbox.FateNoDestination] and why. It holds only if the transaction commits.
//
// It asks the database for more only where a dedupe key was written before, to say of which message this one is the duplicate.
func (h *WebhookTerminalHook) Write(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) ([]outbox.Receipt, error) {
	m, to, err := h.message(ctx, outcome)
	if err != nil {
		return nil, err
	}
	var receipts []outbox.Receipt
	switch len(to) {
	case 0:
		return []outbox.Receipt{{Fate: outbox.FateNoDestination, Reason: h.noDestination(outcome.Headers)}}, nil
	case 1:
		var receipt outbox.Receipt
		receipt, err = h.writer.Write(ctx, tx, m)
		receipts = []outbox.Receipt{receipt}
	default:
		receipts, err = h.writer.WriteEach(ctx, tx, m, to)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook hook: %w", err)
	}
	return receipts, nil
}

// OnTermination writes the outcome in tx: one statement, or none for a run without a destination. [WebhookTerminalHook.Write]
// also says what it did.
//
// Its errors wrap [outbox.ErrInvalidOutcome] when the outcome contradicts itself, [outbox.ErrTransaction] when nothing can be
// written in tx, and are the database's otherwise. A destination, option or result that can never be delivered is not an error:
// it is written as a dead message.
func (h *WebhookTerminalHook) OnTermination(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) error {
	m, to, err := h.message(ctx, outcome)
	if err != nil {
		return err
	}
	switch len(to) {
	case 0:
		return nil
	case 1:
		_, err = h.writer.Insert(ctx, tx, m)
	default:
		err = h.writer.InsertEach(ctx, tx, m, to)
	}
	if err != nil {
		return fmt.Errorf("webhook hook: %w", err)
	}
	return nil
}

// Queue adds the same statement to a batch that the caller sends in its transaction, next to the acknowledgement, so
// that the outcome costs no round trip. It reports whether the batch now holds one more result.
func (h *WebhookTerminalHook) Queue(ctx context.Context, batch *pgx.Batch, outcome outbox.RunOutcome) (queued bool, err error) {
	m, to, err := h.message(ctx, outcome)
	if err != nil {
		return false, err
	}
	switch len(to) {
	case 0:
		return false, nil
	case 1:
		_, err = h.writer.Queue(batch, m)
	default:
		err = h.writer.QueueEach(batch, m, to)
	}
	if err != nil {
		return false, fmt.Errorf("webhook hook: %w", err)
	}
	return true, nil
}

// message is the outcome as a message to its destination. When there are several, they replace what it says of one.
func (h *WebhookTerminalHook) message(ctx context.Context, outcome outbox.RunOutcome) (m outbox.Message, to []outbox.Destination, err error) {
	if err := h.made(); err != nil {
		return m, nil, err
	}
	if err := outcome.Validate(); err != nil {
		return m, nil, fmt.Errorf("webhook hook: %w", err)
	}
	to = h.destinations(outcome)
	if len(to) == 0 {
		return m, nil, nil
	}
	m = outbox.Message{Outcome: outcome, URL: to[0].URL, DedupeKey: to[0].DedupeKey, Fault: to[0].Fault, Tenant: h.tenant(outcome)}
	options, fault := h.options(outcome)
	if fault != nil {
		for i := range to {
			to[i].Fault = fault.Error()
		}
		m.Fault = fault.Error()
	}
	m.Options = options
	m.Options.Forward = h.forwarded(outcome.Headers)
	if h.config.SigningKeyOf != nil {
		m.Options.SigningKey = signingKey(h.config.SigningKeyOf(outcome), m.Options.SigningKey)
	}
	if h.config.Traceparent != nil {
		if parent := h.config.Traceparent(ctx); outbox.CheckTraceparent(parent) == nil {
			m.Options.Traceparent = parent
		}
	}
	return m, to, nil
}

// made reports a hook that NewWebhook did not make. It would panic in the middle of a service's work.
func (h *WebhookTerminalHook) made() error {
	if h == nil || h.writer == nil {
		return errors.New("webhook hook: it is nil or zero; make it with hook.NewWebhook, and look at its error")
	}
	return nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
