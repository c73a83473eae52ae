package riverstep

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Verdict is how a step ended, when it did not end in an error. Its zero value is none, and fails the run.
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

// ContinueAfter is [Continue], not before delay has passed by the database's clock, and up to five seconds later: River's scheduler looks no
// more often.
func ContinueAfter(payload []byte, delay time.Duration) Verdict {
	return Verdict{next: true, payload: payload, delay: delay}
}

// Succeed ends the run with its result.
func Succeed(result []byte) Verdict { return Verdict{status: outbox.Succeeded, result: result} }

// Fail ends the run as failed. The step did its work: its job is completed, and nothing is tried again.
func Fail(reason string) Verdict { return Verdict{status: outbox.Failed, reason: reason} }

// Cancel ends the run as cancelled, for a reason of the runner's. It wins over a cancel from outside, which has none.
func Cancel(reason string) Verdict { return Verdict{status: outbox.Cancelled, reason: reason} }

// With returns the verdict with the runner's own writes. They run in the settling transaction, once it is certain that
// the step is still this worker's; tx cannot be committed or rolled back by them. An error of theirs is as one of the
// runner's: nothing is settled, and the step is tried again unless it is [Permanent] or this was the last attempt. They
// may run more than once, in transactions of which at most one is committed; one that collides with another transaction runs
// them again, and does not count an attempt before Config.SettleTimeout has passed. Called twice, both run, in that order.
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
