package riverstep

import (
	"errors"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// The errors that callers can distinguish.
var (
	// ErrInvalid is in every error about a RunSpec that cannot be accepted; its text names the field and its fault.
	ErrInvalid = errors.New("invalid run")
	// ErrConflict says that a run of this id is active with another input.
	ErrConflict = errors.New("a run of this id is active with another input")
	// ErrNotFound says that there is no run of this id, or that it ended longer ago than Config.Retention.
	ErrNotFound = errors.New("no such run")
	// ErrEnded says that the run ended before it could be cancelled.
	ErrEnded = errors.New("the run has ended")

	errNotBound = errors.New("no River client; call Bind first")
)

// What keeps a worker from settling its decision. None of them leaves this package.
var (
	errLost      = errors.New("the step is not this worker's any more")
	errCancelled = errors.New("cancelled from outside")
)

// writesError is an error of the runner's own writes.
type writesError struct{ err error }

func (e *writesError) Error() string { return e.err.Error() }
func (e *writesError) Unwrap() error { return e.err }

// panicError is a panic of the runner.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// cleanError is an error that River can write into its jsonb columns: with a NUL byte in its text, a job's end could
// never be recorded, and the job would stay running.
type cleanError struct{ err error }

func (e *cleanError) Error() string { return cleantext.Of(e.err.Error()) }
func (e *cleanError) Unwrap() error { return e.err }
