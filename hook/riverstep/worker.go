package riverstep

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// worker is the River worker of steps.
type worker struct {
	river.WorkerDefaults[StepArgs]
	steps *Steps
}

type job = river.Job[StepArgs]

// Timeout is the client's when 0.
func (w *worker) Timeout(*job) time.Duration { return w.steps.config.Timeout }

// lifetime is the key of a context that ends when the client is stopped, not with the step's timeout.
type lifetime struct{}

// Middleware is called by River outside of the step's timeout.
func (w *worker) Middleware(*rivertype.JobRow) []rivertype.WorkerMiddleware {
	return []rivertype.WorkerMiddleware{river.WorkerMiddlewareFunc(
		func(ctx context.Context, _ *rivertype.JobRow, do func(context.Context) error) error {
			return do(context.WithValue(ctx, lifetime{}, ctx))
		})}
}

// stopping reports whether the client is being stopped, hard, or the job was cancelled.
func (t *taking) stopping(work context.Context) bool {
	if ctx, ok := work.Value(lifetime{}).(context.Context); ok {
		return ctx.Err() != nil
	}
	return work.Err() != nil
}

// Work loads the run, calls the runner for its step, and settles what it returns.
func (w *worker) Work(ctx context.Context, j *job) error {
	t := &taking{Steps: w.steps, job: j}
	err := t.work(ctx)
	if err == nil {
		return nil
	}
	return &cleanError{err}
}

// taking is one attempt of a worker at the job of a step.
type taking struct {
	*Steps
	job *job
	run run
}

func (t *taking) work(ctx context.Context) error {
	found, err := t.find(ctx)
	if err != nil {
		return t.snooze(ctx, fmt.Errorf("load the run: %w", err))
	}
	if !found {
		return t.discard(fmt.Errorf("run %q: %w", t.job.Args.RunID, ErrNotFound))
	}
	if !t.run.active() {
		return t.repeatEnd()
	}
	if t.run.JobID != t.job.ID {
		t.log(t.run).WarnContext(ctx, "the job of a step that was settled before runs again; nothing is done", "job_id", t.job.ID)
		return nil
	}
	headers, err := t.run.headers()
	if fault := t.job.Args.fault; fault != nil {
		err = fmt.Errorf("job arguments cannot be decoded: %w", fault)
	}
	switch {
	case t.run.CancelRequested:
		return t.settle(ctx, fromOutside())
	case err != nil:
		return t.settle(ctx, fromError(err))
	case t.job.Attempt > t.run.Attempts:
		return t.settle(ctx, fromError(t.unreported()))
	}
	verdict, err := t.call(ctx, Step{
		RunID: t.run.RunID, Instance: t.run.Instance.String(), Number: t.run.Step, Payload: t.run.Payload, Headers: headers,
		Attempt: t.job.Attempt, Last: t.last(),
	})
	if err != nil {
		return t.settle(ctx, t.fromFailure(ctx, err))
	}
	return t.settle(ctx, t.fromVerdict(verdict))
}

func (t *taking) last() bool { return t.job.Attempt >= t.run.Attempts }

// find loads the run of the job. Its instance is in the arguments and in the metadata.
func (t *taking) find(ctx context.Context) (bool, error) {
	instance := t.job.Args.Instance
	if t.job.Args.fault != nil || instance == (outbox.ID{}) {
		instance = decodeMetadata(t.job.Metadata).Instance
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.config.SettleTimeout)
	defer cancel()
	asked := time.Now()
	got, err := t.rows.load(ctx, t.db, instance)
	if err == nil {
		t.clocks.compare(ctx, t.config.Logger, asked, got.Clock, time.Now())
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	t.run = got
	return err == nil, err
}

// unreported describes a last attempt whose end was never reported.
func (t *taking) unreported() error {
	known := "it was lost with its worker"
	if n := len(t.job.Errors); n > 0 {
		known = t.job.Errors[n-1].Error
	}
	return fmt.Errorf("attempt %d of %d did not report its end: %s", t.run.Attempts, t.run.Attempts, known)
}

// call runs the runner.
func (t *taking) call(ctx context.Context, step Step) (Verdict, error) {
	defer t.metrics.ran(time.Now())
	return t.guarded(ctx, func() (Verdict, error) { return t.runner.RunStep(ctx, step) })
}

// guarded turns a panic into an error; its stack goes to the log only.
func (t *taking) guarded(ctx context.Context, f func() (Verdict, error)) (v Verdict, err error) {
	defer func() {
		if value := recover(); value != nil {
			t.log(t.run).ErrorContext(ctx, "the runner panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
			v, err = Verdict{}, &panicError{value}
		}
	}()
	return f()
}

// repeatEnd ends the job of a run that has ended, in the way that was decided then.
func (t *taking) repeatEnd() error {
	end := endsCompleted
	if t.run.JobEnd != nil {
		end = jobEnd(*t.run.JobEnd)
	}
	if t.run.JobID != t.job.ID {
		end = endsCompleted // the job of an earlier step
	}
	return t.end(end, errors.New(t.run.Error))
}

// end returns what makes River end the job in that state.
func (t *taking) end(end jobEnd, err error) error {
	switch end {
	case endsDiscarded:
		return t.discard(err)
	case endsCancelled:
		return river.JobCancel(errCancelled)
	}
	return nil
}

// discard returns err so that River discards the job now: see the package's doc.
func (t *taking) discard(err error) error {
	t.job.MaxAttempts = t.job.Attempt
	return err
}
