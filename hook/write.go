package hook

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Write does what [WebhookTerminalHook.OnTermination] does and returns a receipt for each URL of the run. For a run without a
// destination it returns one receipt, with [outbox.FateNoDestination] and the reason. A receipt holds only if the transaction
// commits.
//
// Where a dedupe key was written before, it makes one more query, which finds the message that was written first.
func (h *WebhookTerminalHook) Write(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) (receipts []outbox.Receipt, err error) {
	told, err := h.tell(ctx, outcome, func(m outbox.Message, to []outbox.Destination) (err error) {
		if len(to) > 1 {
			receipts, err = h.writer.WriteEach(ctx, tx, m, to)
			return err
		}
		receipt, err := h.writer.Write(ctx, tx, m)
		receipts = []outbox.Receipt{receipt}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !told:
		return []outbox.Receipt{{Fate: outbox.FateNoDestination, Reason: h.noDestination(outcome.Headers)}}, nil
	}
	return receipts, nil
}

// OnTermination writes the outcome in tx: one statement, or none for a run without a destination. [WebhookTerminalHook.Write]
// also says what it did.
//
// Its errors wrap [outbox.ErrInvalidOutcome] when the outcome contradicts itself, [outbox.ErrTransaction] when nothing can be
// written in tx; other errors come from the database. A destination, option or result that can never be delivered is not an
// error: it is written as a dead message.
func (h *WebhookTerminalHook) OnTermination(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) error {
	_, err := h.tell(ctx, outcome, func(m outbox.Message, to []outbox.Destination) error {
		if len(to) > 1 {
			return h.writer.InsertEach(ctx, tx, m, to)
		}
		_, err := h.writer.Insert(ctx, tx, m)
		return err
	})
	return err
}

// Queue adds the same statement to a batch that the caller sends in its transaction, next to the acknowledgement, so
// that the outcome costs no round trip. It reports whether the batch now holds one more result.
func (h *WebhookTerminalHook) Queue(ctx context.Context, batch *pgx.Batch, outcome outbox.RunOutcome) (queued bool, err error) {
	return h.tell(ctx, outcome, func(m outbox.Message, to []outbox.Destination) error {
		if len(to) > 1 {
			return h.writer.QueueEach(batch, m, to)
		}
		_, err := h.writer.Queue(batch, m)
		return err
	})
}

// tell turns the outcome into a message to its destinations and calls write with it. It reports whether there are destinations.
// The writer validates the outcome and the options before it writes anything. Where the options of OptionsOf are at fault, tell
// calls write once more, for a dead message with the options of the hook.
func (h *WebhookTerminalHook) tell(ctx context.Context, outcome outbox.RunOutcome, write func(outbox.Message, []outbox.Destination) error) (told bool, err error) {
	if err := h.made(); err != nil {
		return false, err
	}
	to := h.destinations(outcome)
	if len(to) == 0 {
		if err := outcome.Validate(); err != nil { // no writer is called, which would do it
			return false, fmt.Errorf("webhook hook: %w", err)
		}
		return false, nil
	}
	m := h.message(ctx, outcome, to[0])
	err = write(m, to)
	if fault := h.ofRun(err); fault != nil {
		m.Options, m.Fault = h.complete(ctx, outcome, h.config.Options), fault.Error()
		for i := range to {
			to[i].Fault = m.Fault
		}
		err = write(m, to)
	}
	if err != nil {
		return false, fmt.Errorf("webhook hook: %w", err)
	}
	return true, nil
}

// message is the outcome as a message to its destination. When there are several, they replace its destination.
func (h *WebhookTerminalHook) message(ctx context.Context, outcome outbox.RunOutcome, to outbox.Destination) outbox.Message {
	return outbox.Message{
		Outcome: outcome, URL: to.URL, DedupeKey: to.DedupeKey, Fault: to.Fault, Tenant: h.tenant(outcome),
		Options: h.complete(ctx, outcome, h.options(outcome)),
	}
}

// complete adds to the options what the configuration sets for one run: forwarded headers, signing key and span.
func (h *WebhookTerminalHook) complete(ctx context.Context, outcome outbox.RunOutcome, o outbox.Options) outbox.Options {
	o.Forward = h.forwarded(outcome.Headers)
	if h.config.SigningKeyOf != nil {
		o.SigningKey = signingKey(h.config.SigningKeyOf(outcome), o.SigningKey)
	}
	if h.config.Traceparent != nil {
		if parent := h.config.Traceparent(ctx); header.CheckTraceparent(parent) == nil {
			o.Traceparent, o.Tracestate = parent, h.tracestate(ctx)
		}
	}
	return o
}

// tracestate returns the tracestate for a traceparent; one that cannot be carried is dropped.
func (h *WebhookTerminalHook) tracestate(ctx context.Context) string {
	if h.config.Tracestate == nil {
		return ""
	}
	state := h.config.Tracestate(ctx)
	if header.CheckTracestate(state) != nil {
		return ""
	}
	return state
}

// made reports a hook that NewWebhook did not make. Without this check, the hook would panic in the middle of the work of a
// service.
func (h *WebhookTerminalHook) made() error {
	if h == nil || h.writer == nil {
		return errors.New("webhook hook: it is nil or zero; make it with hook.NewWebhook, and look at its error")
	}
	return nil
}
