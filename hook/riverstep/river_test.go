package riverstep_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertest"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

func TestTheServicesMiddlewareSeesStepsAndTheirSuccessors(t *testing.T) {
	t.Parallel()
	m := &middleware{}
	r := newRig(t, riverstep.RunnerFunc(func(ctx context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if ctx.Value(m) == nil {
			return riverstep.Fail("the middleware's value is missing"), nil
		}
		if s.Number < 2 {
			return riverstep.Continue(nil), nil
		}
		return riverstep.Succeed(nil), nil
	}), func(c *riverstep.Config, rc *river.Config) {
		rc.Middleware = []rivertype.Middleware{m}
		rc.Queues["steps"] = river.QueueConfig{MaxWorkers: 1}
		c.Queue = "steps"
	})
	r.start()
	r.submit(riverstep.RunSpec{ID: runID, Priority: 3})
	if got := r.wait(runID); got.State != riverstep.Succeeded {
		t.Errorf("the run is %+v, want succeeded", got)
	}
	if job := r.job(runID); job.Queue != "steps" || job.Priority != 3 {
		t.Errorf("the last job is of the queue %s with priority %d, want steps and 3", job.Queue, job.Priority)
	}
	if m.inserted.Load() != 3 || m.worked.Load() != 3 {
		t.Errorf("the middleware saw %d inserts and %d steps, want 3 of both", m.inserted.Load(), m.worked.Load())
	}
}

// middleware counts steps, and gives them a value.
type middleware struct {
	river.MiddlewareDefaults
	inserted, worked atomic.Int32
}

func (m *middleware) InsertMany(ctx context.Context, many []*rivertype.JobInsertParams,
	do func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	for _, p := range many {
		if p.Kind == riverstep.StepKind {
			m.inserted.Add(1)
		}
	}
	return do(ctx)
}

func (m *middleware) Work(ctx context.Context, job *rivertype.JobRow, do func(context.Context) error) error {
	if job.Kind == riverstep.StepKind {
		m.worked.Add(1)
	}
	return do(context.WithValue(ctx, m, true))
}

func TestRunsThatHaveBegunCanGoFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if s.Number < 2 {
			return riverstep.Continue(nil), nil
		}
		return riverstep.Succeed(nil), nil
	}), func(c *riverstep.Config, rc *river.Config) {
		c.BegunFirst = true
		rc.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}}
	})
	for _, id := range []string{"a", "b", "c"} {
		r.submit(riverstep.RunSpec{ID: id, Priority: 2})
	}
	r.start()
	order := ""
	for _, id := range []string{"a", "b", "c"} {
		r.wait(id)
	}
	for _, s := range r.calls.all() {
		order += s.RunID
	}
	if order != "aaabbbccc" {
		t.Errorf("the steps were done in the order %s, want aaabbbccc", order)
	}
	if job := r.job("a"); job.Priority != 1 {
		t.Errorf("the last step has priority %d, want 1", job.Priority)
	}
}

// The runtime uses the test's transaction as its database, so that all of it can be rolled back.
func TestRivertestWorksAStep(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	tx, err := r.db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	steps, err := riverstep.New(tx, echo(), riverstep.Config{Schema: r.db.Schema})
	must(t, err)
	config := &river.Config{Schema: r.db.Schema}
	must(t, steps.Register(config))
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: r.db.Schema})
	must(t, err)
	steps.Bind(client)
	submitted, err := steps.SubmitTx(t.Context(), tx, riverstep.RunSpec{ID: runID, Input: []byte("in")})
	must(t, err)
	job := rivertest.RequireInsertedTx[*riverpgxv5.Driver](t.Context(), t, tx, riverstep.StepArgs{}, &rivertest.RequireInsertedOpts{Schema: r.db.Schema})
	if job.Args.RunID != runID || job.Args.Instance.String() != submitted.Instance {
		t.Errorf("the job's arguments are %+v, want the submitted run and instance", job.Args)
	}
	result, err := rivertest.NewWorker(t, riverpgxv5.New(nil), &river.Config{Schema: r.db.Schema}, steps.StepWorker()).
		WorkJob(t.Context(), t, tx, job.JobRow)
	must(t, err)
	if result.EventKind != river.EventKindJobCompleted {
		t.Errorf("the job's event is %s, want completed", result.EventKind)
	}
	if got, err := steps.Status(t.Context(), runID); err != nil || string(got.Result) != "in" {
		t.Errorf("the run is %+v, %v; want the result in", got, err)
	}
}
