package riverstep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// jobEnd is the state in which a run's last job ends.
type jobEnd string

const (
	endsCompleted jobEnd = "completed"
	endsDiscarded jobEnd = "discarded"
	endsCancelled jobEnd = "cancelled"
)

// decision is what is to be settled: the next step, an ending, or that the step goes back to River to be tried again.
type decision struct {
	next    bool
	release bool
	payload []byte
	delay   time.Duration
	ending
	err    error // what River gets, when the job does not end as completed
	writes func(context.Context, pgx.Tx) error
}

func fromOutside() decision {
	return decision{ending: ending{status: outbox.Cancelled, job: endsCancelled}, err: errCancelled}
}

func fromError(err error) decision {
	return decision{ending: ending{status: outbox.Failed, reason: err.Error(), job: endsDiscarded, regards: true}, err: err}
}

// released records in the row of the run that no runner works on it. A cancel that comes before River has seen the error then
// ends the run at once. A cancel that came earlier ends it in place of the release.
func released(err error) decision {
	return decision{release: true, ending: ending{regards: true}, err: err}
}

func (t *taking) fromVerdict(v Verdict) decision {
	switch {
	case v.next && len(v.payload) > t.config.InputBytesMax:
		return fromError(fmt.Errorf("payload of Continue: %d bytes, the limit is %d", len(v.payload), t.config.InputBytesMax))
	case !v.next && v.status == "":
		return fromError(errors.New("the runner returned neither a verdict nor an error"))
	}
	return decision{
		next: v.next, payload: v.payload, delay: v.delay, writes: v.writes,
		ending: ending{
			status: v.status, result: v.result, reason: v.reason, job: endsCompleted,
			regards: v.next || v.status != outbox.Cancelled, // a cancel by the runner wins
		},
	}
}

// fromFailure decides what follows an error of the runner, or of its writes.
func (t *taking) fromFailure(work context.Context, err error) decision {
	if errors.Is(work.Err(), context.DeadlineExceeded) && !isPermanent(err) {
		err = fmt.Errorf("the attempt timed out: %w", err)
	}
	cause := context.Cause(work)
	switch {
	case errors.Is(cause, rivertype.ErrJobCancelledRemotely):
		return fromOutside()
	case isPermanent(err):
		return fromError(err)
	case errors.Is(work.Err(), context.Canceled):
		// The client is stopping and will not count this attempt; River recognises the cause.
		return released(fmt.Errorf("%w: %w", cause, err))
	case t.last():
		return fromError(err)
	}
	return released(err)
}

// refused reports an error of the database that is about the written data, and would come again.
func refused(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	code := sqlstate.Of(err)
	for _, class := range []string{"22", "23", "25", "42", "P0"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
