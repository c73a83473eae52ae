package riverstep_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

const runID = "order-4711"

// cause is one way in which a run can end.
type cause struct {
	runner   riverstep.Runner
	spec     riverstep.RunSpec                      // its ID is always runID; three attempts if it has no number
	change   func(*riverstep.Config, *river.Config) // changes the service's configuration
	before   func(*rig)                             // between the submission and the start of the worker
	during   func(r *rig, running <-chan struct{})  // after the worker's start; running is closed when the runner is called
	status   outbox.TerminalStatus                  // the fields from here on are what the test wants
	result   string
	reason   string
	step     uint32
	calls    int
	attempts int // of the last job
	job      rivertype.JobState
}

func TestEveryWayARunCanEnd(t *testing.T) {
	t.Parallel()
	all := map[string]cause{}
	for _, group := range []map[string]cause{verdicts(), errorsOfTheRunner(), cancels(), damages()} {
		for name, c := range group {
			all[name] = c
		}
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func (c cause) check(t *testing.T) {
	running := make(chan struct{})
	var once sync.Once
	r := newRig(t, riverstep.RunnerFunc(func(ctx context.Context, step riverstep.Step) (riverstep.Verdict, error) {
		once.Do(func() { close(running) })
		return c.runner.RunStep(ctx, step)
	}), c.change)
	spec := c.spec
	spec.ID, spec.Headers = runID, map[string]string{"tenant": "blue"}
	if spec.Attempts == 0 {
		spec.Attempts = 3
	}
	r.submit(spec)
	if c.before != nil {
		c.before(r)
	}
	r.start()
	if c.during != nil {
		c.during(r, running)
	}
	status := r.wait(runID)
	job := r.job(runID)
	if status.State != riverstep.State(c.status) || string(status.Result) != c.result || status.Step != c.step {
		t.Errorf("the run is %+v, want %s at step %d with the result %q", status, c.status, c.step, c.result)
	}
	if !strings.Contains(status.Error, c.reason) || (c.reason == "") != (status.Error == "") {
		t.Errorf("the run's error is %q, want %q", status.Error, c.reason)
	}
	if job.State != c.job || job.Attempt != c.attempts {
		t.Errorf("the job is %s after attempt %d, want %s after %d; errors %v", job.State, job.Attempt, c.job, c.attempts, job.Errors)
	}
	if n := len(r.calls.all()); n != c.calls {
		t.Errorf("the runner was called %d times, want %d", n, c.calls)
	}
	c.checkMessage(t, r, status)
}

func (c cause) checkMessage(t *testing.T, r *rig, status riverstep.RunStatus) {
	messages := r.messages(runID)
	if len(messages) != 1 {
		t.Fatalf("%d messages, want 1", len(messages))
	}
	m := messages[0]
	if m.Status != c.status || string(m.Result) != c.result || m.FinalStep != c.step || m.Headers["tenant"] != "blue" ||
		m.Headers[riverstep.InstanceHeader] != status.Instance {
		t.Errorf("the message is %+v, want the run's outcome, headers and instance", m)
	}
	if c.status != outbox.Succeeded && (m.Error == nil || *m.Error != status.Error) {
		t.Errorf("the message's error is %v, want that of the run: %q", m.Error, status.Error)
	}
}

func verdicts() map[string]cause {
	return map[string]cause{
		"succeed": {
			runner: always(riverstep.Succeed([]byte("done")), nil),
			status: outbox.Succeeded, result: "done", calls: 1, attempts: 1, job: rivertype.JobStateCompleted,
		},
		"fail": {
			runner: always(riverstep.Fail("no stock"), nil),
			status: outbox.Failed, reason: "no stock", calls: 1, attempts: 1, job: rivertype.JobStateCompleted,
		},
		"cancel by the runner": {
			runner: always(riverstep.Cancel("not wanted"), nil),
			status: outbox.Cancelled, reason: "not wanted", calls: 1, attempts: 1, job: rivertype.JobStateCompleted,
		},
		"continue, continue later, succeed": {
			runner: riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
				switch s.Number {
				case 0:
					return riverstep.Continue(append(s.Payload, '1')), nil
				case 1:
					return riverstep.ContinueAfter(append(s.Payload, '2'), 50*time.Millisecond), nil
				}
				return riverstep.Succeed(s.Payload), nil
			}),
			spec:   riverstep.RunSpec{Input: []byte("0")},
			status: outbox.Succeeded, result: "012", step: 2, calls: 3, attempts: 1, job: rivertype.JobStateCompleted,
		},
		"no verdict": {
			runner: always(riverstep.Verdict{}, nil),
			status: outbox.Failed, reason: "neither a verdict nor an error", calls: 1, attempts: 1, job: rivertype.JobStateDiscarded,
		},
		"a payload over the limit": {
			runner: always(riverstep.Continue(make([]byte, 101)), nil),
			change: func(c *riverstep.Config, _ *river.Config) { c.InputBytesMax = 100 },
			status: outbox.Failed, reason: "101 bytes, the limit is 100", calls: 1, attempts: 1, job: rivertype.JobStateDiscarded,
		},
	}
}

func errorsOfTheRunner() map[string]cause {
	transient := errors.New("the line is busy")
	return map[string]cause{
		"a permanent error": {
			runner: always(riverstep.Verdict{}, riverstep.Permanent(errors.New("no such order"))),
			status: outbox.Failed, reason: "no such order", calls: 1, attempts: 1, job: rivertype.JobStateDiscarded,
		},
		"a transient error on the last attempt": {
			runner: always(riverstep.Verdict{}, transient),
			status: outbox.Failed, reason: "the line is busy", calls: 3, attempts: 3, job: rivertype.JobStateDiscarded,
		},
		"transient errors, then success": {
			runner: riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
				if s.Last != (s.Attempt == 3) {
					return riverstep.Fail("Last is wrong"), nil
				}
				if s.Last {
					return riverstep.Succeed(nil), nil
				}
				return riverstep.Verdict{}, transient
			}),
			status: outbox.Succeeded, calls: 3, attempts: 3, job: rivertype.JobStateCompleted,
		},
		"panics until the last attempt": {
			runner: riverstep.RunnerFunc(func(context.Context, riverstep.Step) (riverstep.Verdict, error) { panic("oh dear") }),
			status: outbox.Failed, reason: "panic: oh dear", calls: 3, attempts: 3, job: rivertype.JobStateDiscarded,
		},
		"an error that Postgres cannot hold": {
			runner: always(riverstep.Verdict{}, errors.New("a\x00b\xffc")),
			status: outbox.Failed, reason: "a\uFFFDb\uFFFDc", calls: 3, attempts: 3, job: rivertype.JobStateDiscarded,
		},
		"timeouts until the last attempt": {
			runner: riverstep.RunnerFunc(func(ctx context.Context, _ riverstep.Step) (riverstep.Verdict, error) {
				<-ctx.Done()
				return riverstep.Verdict{}, ctx.Err()
			}),
			spec: riverstep.RunSpec{Attempts: 2}, change: func(c *riverstep.Config, _ *river.Config) { c.Timeout = 50 * time.Millisecond },
			status: outbox.Failed, reason: "timed out", calls: 2, attempts: 2, job: rivertype.JobStateDiscarded,
		},
		"a crash on the last attempt": {
			runner: always(riverstep.Succeed(nil), nil), before: func(r *rig) { r.crashed(3) },
			change: func(_ *riverstep.Config, rc *river.Config) {
				rc.RescueStuckJobsAfter, rc.JobTimeout = 30*time.Second, 20*time.Second
			},
			status: outbox.Failed, reason: "attempt 3 of 3 did not report its end", attempts: 4, job: rivertype.JobStateDiscarded,
		},
		"a crash before the last attempt": {
			runner: always(riverstep.Succeed([]byte("done")), nil), before: func(r *rig) { r.crashed(2) },
			change: func(_ *riverstep.Config, rc *river.Config) {
				rc.RescueStuckJobsAfter, rc.JobTimeout = 30*time.Second, 20*time.Second
			},
			status: outbox.Succeeded, result: "done", calls: 1, attempts: 3, job: rivertype.JobStateCompleted,
		},
	}
}

// crashed changes the run's job so that its worker seems to have died during this attempt, a minute ago. River's rescuer finds
// it.
func (r *rig) crashed(attempt int) {
	r.t.Helper()
	r.execute("UPDATE "+r.db.Schema+`.river_job SET state = 'running', attempt = $1, attempted_at = now() - interval '1 minute',
attempted_by = '{gone}' WHERE kind = 'workflow_step'`, attempt)
}

func cancels() map[string]cause {
	untilCancelled := func(v riverstep.Verdict, err error) riverstep.Runner {
		return riverstep.RunnerFunc(func(ctx context.Context, _ riverstep.Step) (riverstep.Verdict, error) {
			<-ctx.Done()
			return v, err
		})
	}
	cancelRunning := func(r *rig, running <-chan struct{}) {
		<-running
		must(r.t, r.steps.Cancel(r.t.Context(), runID))
	}
	cancelWaiting := func(r *rig) { must(r.t, r.steps.Cancel(r.t.Context(), runID)) }
	cancelledWhileRunning := func(v riverstep.Verdict, err error) cause {
		return cause{
			runner: untilCancelled(v, err), during: cancelRunning,
			status: outbox.Cancelled, calls: 1, attempts: 1, job: rivertype.JobStateCancelled,
		}
	}
	own := cancelledWhileRunning(riverstep.Cancel("my own reason"), nil)
	own.reason, own.job = "my own reason", rivertype.JobStateCompleted
	last := cancelledWhileRunning(riverstep.Verdict{}, errors.New("interrupted"))
	last.spec.Attempts = 1
	return map[string]cause{
		"cancelled from outside while it waits": {
			runner: always(riverstep.Succeed(nil), nil), before: cancelWaiting,
			status: outbox.Cancelled, job: rivertype.JobStateCancelled,
		},
		"cancelled from outside while it is scheduled": {
			runner: always(riverstep.Succeed(nil), nil), spec: riverstep.RunSpec{RunAt: time.Now().Add(time.Hour)}, before: cancelWaiting,
			status: outbox.Cancelled, job: rivertype.JobStateCancelled,
		},
		"cancelled from outside while it runs, and continues":                            cancelledWhileRunning(riverstep.Continue(nil), nil),
		"cancelled from outside while it runs, and succeeds":                             cancelledWhileRunning(riverstep.Succeed(nil), nil),
		"cancelled from outside while it runs, and fails":                                cancelledWhileRunning(riverstep.Fail("late"), nil),
		"cancelled from outside while it runs, and returns an error":                     cancelledWhileRunning(riverstep.Verdict{}, errors.New("interrupted")),
		"cancelled from outside while it runs, and returns an error in the last attempt": last,
		"cancelled from outside while it runs, and returns a permanent error":            cancelledWhileRunning(riverstep.Verdict{}, riverstep.Permanent(errors.New("x"))),
		"cancelled from outside while it runs, and cancels for its own reason":           own,
		"cancelled from outside after its worker died": {
			runner: always(riverstep.Succeed(nil), nil),
			before: func(r *rig) { r.crashed(1); cancelWaiting(r) },
			change: func(c *riverstep.Config, rc *river.Config) {
				rc.RescueStuckJobsAfter, rc.JobTimeout, c.SweepInterval = 30*time.Second, 20*time.Second, 100*time.Millisecond
			},
			status: outbox.Cancelled, attempts: 1, job: rivertype.JobStateCancelled,
		},
		"cancelled in River UI while it waits": {
			runner: always(riverstep.Succeed(nil), nil),
			before: func(r *rig) { r.cancelInRiver() },
			change: func(c *riverstep.Config, _ *river.Config) { c.SweepInterval = 100 * time.Millisecond },
			status: outbox.Cancelled, job: rivertype.JobStateCancelled,
		},
		"cancelled in River UI while it runs": {
			runner: untilCancelled(riverstep.Succeed(nil), nil),
			during: func(r *rig, running <-chan struct{}) { <-running; r.cancelInRiver() },
			status: outbox.Cancelled, calls: 1, attempts: 1, job: rivertype.JobStateCancelled,
		},
	}
}

func (r *rig) cancelInRiver() {
	r.t.Helper()
	id := one[int64](r.t, r.db.Pool, "SELECT job_id FROM "+r.db.Schema+".riverstep_run")
	_, err := r.client.JobCancel(r.t.Context(), id)
	must(r.t, err)
}

func damages() map[string]cause {
	damaged := func(sql, reason string) cause {
		return cause{
			runner: always(riverstep.Succeed(nil), nil),
			before: func(r *rig) { r.execute(strings.ReplaceAll(sql, "outbox.", r.db.Schema+".")) },
			status: outbox.Failed, reason: reason, attempts: 1, job: rivertype.JobStateDiscarded,
		}
	}
	discarded := damaged(`UPDATE outbox.river_job SET state = 'discarded', finalized_at = now(), errors = ARRAY['{"at": "2026-01-01T00:00:00Z", "attempt": 1, "error": "of an unknown kind", "trace": ""}'::jsonb]`,
		"the step's job was discarded: of an unknown kind")
	discarded.attempts = 0
	discarded.change = func(c *riverstep.Config, _ *river.Config) { c.SweepInterval = 100 * time.Millisecond }
	return map[string]cause{
		"arguments of another type":    damaged(`UPDATE outbox.river_job SET args = '{"step": "one"}'`, "job arguments cannot be decoded"),
		"arguments without the run":    damaged(`UPDATE outbox.river_job SET args = '{}'`, "job arguments cannot be decoded: instance is missing"),
		"headers that are not strings": damaged(`UPDATE outbox.riverstep_run SET headers = headers || '{"number": 1}'`, `headers cannot be decoded: "number" is not a string`),
		"discarded by others":          discarded,
	}
}
