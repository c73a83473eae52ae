package riverstep

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Verdict is how a step ended without an error. Its zero value is invalid, and fails the run.
type Verdict struct {
	next    bool                  // the run goes on
	status  outbox.TerminalStatus // else: how it ends
	payload []byte                // of the next step
	delay   time.Duration         // until the next step
	result  []byte
	reason  string
	writes  func(context.Context, pgx.Tx) error
}

// Continue goes on with the next step, which gets payload.
func Continue(payload []byte) Verdict { return Verdict{next: true, payload: payload} }

// ContinueAfter is [Continue] after a delay by the clock of the database. It can be up to five seconds late, the interval of
// the scheduler of River.
func ContinueAfter(payload []byte, delay time.Duration) Verdict {
	return Verdict{next: true, payload: payload, delay: delay}
}

// Succeed ends the run with its result.
func Succeed(result []byte) Verdict { return Verdict{status: outbox.Succeeded, result: result} }

// Fail ends the run as failed. The step did its work: its job is completed, and nothing is tried again.
func Fail(reason string) Verdict { return Verdict{status: outbox.Failed, reason: reason} }

// Cancel ends the run as cancelled, with a reason of the runner. It wins over a cancel from outside, which has no reason.
func Cancel(reason string) Verdict { return Verdict{status: outbox.Cancelled, reason: reason} }

// With returns the verdict with writes of the runner. They run in the settling transaction, once it is certain that the step
// still belongs to this worker; they cannot commit tx or roll it back. When they return an error, nothing is settled, and it
// counts as an error of the runner: the step is tried again unless the error is [Permanent] or this was the last attempt. They
// may run more than once, in transactions; at most one of them is committed. A transaction that collides with another one runs
// them again; no attempt is counted for it before Config.SettleTimeout has passed. When With is called twice, both writes run,
// in that order.
func (v Verdict) With(writes func(ctx context.Context, tx pgx.Tx) error) Verdict {
	before := v.writes
	if before == nil {
		v.writes = writes
		return v
	}
	v.writes = func(ctx context.Context, tx pgx.Tx) error {
		if err := before(ctx, tx); err != nil {
			return err
		}
		return writes(ctx, tx)
	}
	return v
}

// Permanent makes an error that fails the run at once, with its message. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

func isPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}
