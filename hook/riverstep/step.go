package riverstep

import "context"

// Step is one unit of a run's work.
type Step struct {
	RunID    string
	Instance string            // differs for each run of the same id: a key for what must happen once
	Number   uint32            // zero-based
	Payload  []byte            // the input of the run, or what the previous step gave to Continue
	Headers  map[string]string // the submitter's metadata
	Attempt  int               // of this step, from 1
	Last     bool              // no attempt follows: an error now fails the run
}

// Runner does the work of steps. Its context ends when the step times out, is cancelled from outside, or the River client
// is stopped hard. It is called by many goroutines at once.
//
// An error is transient: the step is tried again, while it has attempts. [Permanent] makes it final. A panic is a
// transient error; its stack is logged.
type Runner interface {
	RunStep(ctx context.Context, step Step) (Verdict, error)
}

// RunnerFunc is a function as a [Runner].
type RunnerFunc func(ctx context.Context, step Step) (Verdict, error)

// RunStep calls f.
func (f RunnerFunc) RunStep(ctx context.Context, step Step) (Verdict, error) { return f(ctx, step) }
