package riverstep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

// TestTheSweepChecksEveryRun, however many there are. Runs with a job stay, and the last one is the only orphan.
func TestTheSweepChecksEveryRun(t *testing.T) {
	t.Parallel()
	const alive = 1001 // fills two batches of the sweep; the orphan is in a third
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.SweepInterval = 100 * time.Millisecond })
	r.submit(riverstep.RunSpec{ID: "z-orphan"})
	r.execute(r.in(`DELETE FROM outbox.river_job`))
	r.execute(r.in(`WITH job AS (
    INSERT INTO outbox.river_job (kind, args, max_attempts, queue, priority, state, scheduled_at, metadata)
    SELECT 'workflow_step', '{}', 5, 'default', 1, 'scheduled', now() + interval '1 h', '{}' FROM generate_series(1, $1::integer)
    RETURNING id
)
INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, payload, job_id)
SELECT gen_random_uuid(), 'a-' || id, 5, '', '', id FROM job`), alive)
	r.start()
	if got := r.wait("z-orphan"); got.State != riverstep.Failed || got.Error != "the step's job was deleted" {
		t.Errorf("the orphan is %+v, want failed, because its job was deleted", got)
	}
	if n := one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.riverstep_run WHERE status = 'active'`)); n != alive {
		t.Errorf("%d of %d runs with a job are active, want all", n, alive)
	}
}

// TestARunWhoseJobWasDeletedCanBeCancelled: the cancel ends the run, and so calls Wake.
func TestARunWhoseJobWasDeletedCanBeCancelled(t *testing.T) {
	t.Parallel()
	var wakes atomic.Int32
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.Wake = func() { wakes.Add(1) } })
	r.submit(riverstep.RunSpec{ID: runID})
	r.execute(r.in(`DELETE FROM outbox.river_job`))
	must(t, r.steps.Cancel(t.Context(), runID))
	r.mustEndAs(riverstep.Cancelled, "")
	if n := wakes.Load(); n != 1 {
		t.Errorf("%d wakes, want 1", n)
	}
	if err := r.steps.Cancel(t.Context(), runID); !errors.Is(err, riverstep.ErrEnded) || wakes.Load() != 1 {
		t.Errorf("a second Cancel returns %v after %d wakes, want ErrEnded and 1", err, wakes.Load())
	}
	if err := r.steps.Cancel(t.Context(), "nobody"); !errors.Is(err, riverstep.ErrNotFound) {
		t.Errorf("for an unknown run, Cancel returns %v, want ErrNotFound", err)
	}
}

// A cancel of a run whose step is running does not end the run, so it does not call Wake.
func TestACancelDuringAStepDoesNotCallWake(t *testing.T) {
	t.Parallel()
	var wakes atomic.Int32
	running := newGate(t)
	r := newRig(t, riverstep.RunnerFunc(func(context.Context, riverstep.Step) (riverstep.Verdict, error) {
		running.stop()
		return riverstep.Succeed(nil), nil
	}), func(c *riverstep.Config, _ *river.Config) { c.Wake = func() { wakes.Add(1) } })
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	<-running.reached
	must(t, r.steps.Cancel(t.Context(), runID))
	if got, err := r.steps.Status(t.Context(), runID); err != nil || !got.Cancelling || got.State != riverstep.Active || wakes.Load() != 0 {
		t.Errorf("the run is %+v, %v, after %d wakes; want it active and cancelling, after none", got, err, wakes.Load())
	}
	running.letGo()
	r.mustEndAs(riverstep.Cancelled, "")
	r.until(func() bool { return wakes.Load() == 1 })
}

// The log names ten runs that the sweep cannot end, and counts the others.
func TestTheSweepLogsTenRunsThatItCannotEnd(t *testing.T) {
	t.Parallel()
	log := &lines{}
	refuse := &refusing{}
	refuse.times.Store(1 << 30)
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) {
		refuse.TerminalHook, c.Hook = c.Hook, refuse
		c.SweepInterval, c.Logger = 100*time.Millisecond, slog.New(slog.NewTextHandler(log, nil))
	})
	for i := range 13 {
		r.submit(riverstep.RunSpec{ID: fmt.Sprintf("run-%02d", i)})
	}
	r.execute(r.in(`DELETE FROM outbox.river_job`))
	r.start()
	r.until(func() bool { return len(log.with("and 3 more")) > 0 })
	line := log.with("and 3 more")[0]
	for i := range 13 {
		if named := strings.Contains(line, fmt.Sprintf(`run \"run-%02d\"`, i)); named != (i < 10) {
			t.Errorf("the log names run %d: %v, want the first ten only", i, named)
		}
	}
	refuse.times.Store(0)
	for i := range 13 {
		if got := r.wait(fmt.Sprintf("run-%02d", i)); got.State != riverstep.Failed {
			t.Errorf("the run is %+v, want failed", got)
		}
	}
}

// TestRunsThatCannotBeDeletedStopNoPruning, however many there are, and although they are the oldest.
func TestRunsThatCannotBeDeletedStopNoPruning(t *testing.T) {
	t.Parallel()
	const kept, removed = 130, 20 // more than the number at which one sweep gives up
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) {
		c.Retention, c.SweepInterval = time.Hour, 100*time.Millisecond
	})
	r.execute(r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, status, job_end, ended_at)
SELECT gen_random_uuid(), 'run-' || n, 1, '', 'succeeded', 'completed', now() - interval '1 day' + n * interval '1 s'
FROM generate_series(1, $1::integer) n`), kept+removed)
	r.execute(r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, status, job_end, ended_at)
SELECT gen_random_uuid(), 'young', 1, '', 'succeeded', 'completed', now() - interval '50 min'`))
	r.execute(r.in(`CREATE TABLE outbox.receipt (instance uuid REFERENCES outbox.riverstep_run)`)) // a table of the service
	r.execute(r.in(`INSERT INTO outbox.receipt SELECT instance FROM outbox.riverstep_run ORDER BY ended_at LIMIT $1`), kept)
	r.start()
	left := func() int { return one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.riverstep_run`)) }
	r.until(func() bool { return left() == kept+1 })
	r.execute(r.in(`DROP TABLE outbox.receipt`))
	r.until(func() bool { return left() == 1 }) // the others are tried again
	if _, err := r.steps.Status(t.Context(), "young"); err != nil {
		t.Errorf("Status of the young run returns %v, want it kept", err)
	}
}
