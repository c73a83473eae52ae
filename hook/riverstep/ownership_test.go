package riverstep_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

// meanwhile is what happens to a step's job, or to its run, while its runner works.
type meanwhile struct {
	sql   string // changes the job or the run; $1 is the run's id
	lost  bool   // the step is lost: its worker must write nothing
	job   string // the job's state afterwards, if the step was lost
	swept string // the run after the next sweep; empty: as before
}

const (
	jobOf = `WHERE kind = 'workflow_step' AND args->>'run_id' = $1`
	again = "succeeded 0 again" // the next attempt is settled
)

// meanwhiles are all that can happen to a job. When another worker has taken a job, the first worker's River completes it all
// the same, because it does not check whose job it is. Then the sweep makes it run again.
var meanwhiles = map[string]meanwhile{
	"untouched":            {sql: `SELECT FROM outbox.river_job ` + jobOf},
	"completed-by-another": {sql: `UPDATE outbox.river_job SET state = 'completed', finalized_at = now() ` + jobOf},
	"rescued": {
		sql:  `UPDATE outbox.river_job SET state = 'retryable', scheduled_at = now() + interval '1 h' ` + jobOf,
		lost: true, job: "retryable",
	},
	"retaken": {
		sql:  `UPDATE outbox.river_job SET attempt = attempt + 1, attempted_at = attempted_at + interval '1 s' ` + jobOf,
		lost: true, job: "completed", swept: again,
	},
	"retaken-after-a-snooze": { // a snooze takes the attempt's number back
		sql:  `UPDATE outbox.river_job SET attempted_at = attempted_at + interval '1 s' ` + jobOf,
		lost: true, job: "completed", swept: again,
	},
	"retaken-at-the-same-time": { // a clock was set back
		sql: `UPDATE outbox.river_job SET attempt = attempt + 1 ` + jobOf, lost: true, job: "completed", swept: again,
	},
	"cancelled": {
		sql:  `UPDATE outbox.river_job SET state = 'cancelled', finalized_at = now() ` + jobOf,
		lost: true, job: "cancelled", swept: "cancelled 0 ",
	},
	"discarded": {
		sql:  `UPDATE outbox.river_job SET state = 'discarded', finalized_at = now() ` + jobOf,
		lost: true, job: "discarded", swept: "failed 0 the step's job was discarded",
	},
	"deleted": {
		sql: `DELETE FROM outbox.river_job ` + jobOf, lost: true, job: "", swept: "failed 0 the step's job was deleted",
	},
	"ended-by-another": {
		sql: `UPDATE outbox.riverstep_run SET status = 'failed', error = 'elsewhere', job_end = 'discarded', ended_at = now(),
payload = NULL WHERE run_id = $1`,
		lost: true, job: "completed", swept: "failed 0 elsewhere",
	},
	"at-another-job": {
		sql:  `UPDATE outbox.riverstep_run SET job_id = job_id + 1000000 WHERE run_id = $1`,
		lost: true, job: "completed", swept: "failed 0 the step's job was deleted",
	},
	"cancel-requested":       {sql: `UPDATE outbox.riverstep_run SET cancel_requested_at = now() WHERE run_id = $1`},
	"cancelled-in-river-too": {sql: `UPDATE outbox.river_job SET metadata = metadata || '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' ` + jobOf},
}

// doing is what a runner does.
type doing struct {
	verdict  riverstep.Verdict
	err      error
	attempts int
	run, job string // the run and the job afterwards, if the job is untouched
	own      bool   // its own end counts before a cancel from outside
}

var doings = map[string]doing{
	"succeeds":                       {verdict: riverstep.Succeed([]byte("mine")), run: "succeeded 0 mine", job: "completed"},
	"fails":                          {verdict: riverstep.Fail("no stock"), run: "failed 0 no stock", job: "completed"},
	"cancels":                        {verdict: riverstep.Cancel("not wanted"), run: "cancelled 0 not wanted", job: "completed", own: true},
	"continues":                      {verdict: riverstep.Continue([]byte("next")), run: "succeeded 1 again", job: "completed"},
	"returns-an-error":               {err: errors.New("busy"), run: "active 0 released", job: "retryable"},
	"returns-an-error-the-last-time": {err: errors.New("busy"), attempts: 1, run: "failed 0 busy", job: "discarded"},
	"returns-a-permanent-error":      {err: riverstep.Permanent(errors.New("no such order")), run: "failed 0 no such order", job: "discarded"},
}

// wants returns the run and the job that the test wants once the runner has returned.
func (m meanwhile) wants(name string, d doing) (run, job string) {
	switch {
	case name == "ended-by-another":
		return m.swept, m.job
	case m.lost:
		return "active 0 ", m.job
	case strings.HasPrefix(name, "cancel") && !d.own:
		return "cancelled 0 ", "cancelled"
	case name == "completed-by-another":
		return d.run, "completed" // a job that River has ended is never changed
	}
	return d.run, d.job
}

// wantsSwept returns the run that the test wants after a sweep.
func (m meanwhile) wantsSwept(name string, d doing) string {
	run, _ := m.wants(name, d)
	switch {
	case name == "completed-by-another" && d.run == "active 0 released":
		return again // the step was released, and without the sweep no worker would take it again
	case m.swept == again && d.attempts == 1:
		return "failed 0 attempt 1 of 1 did not report its end: it was lost with its worker"
	case m.swept != "":
		return m.swept
	}
	return run
}

// states works all cases of the table at the same time, each in a run of its own.
type states struct {
	*rig
	log   *lines
	wakes atomic.Int32
	mu    sync.Mutex
	atIt  map[string]chan struct{} // closed when the runner works
	goOn  map[string]chan struct{} // closed when it may return
	cases map[string]doing
}

func (s *states) run(_ context.Context, step riverstep.Step) (riverstep.Verdict, error) {
	s.mu.Lock()
	atIt, goOn, d := s.atIt[step.RunID], s.goOn[step.RunID], s.cases[step.RunID]
	s.mu.Unlock()
	select {
	case <-atIt: // not its first call
		return riverstep.Succeed([]byte("again")), nil
	default:
	}
	close(atIt)
	<-goOn
	return d.verdict, d.err
}

// standing returns a run as "status step result-or-error".
func (r *rig) standing(runID string) string {
	r.t.Helper()
	return one[string](r.t, r.db.Pool, r.in(`SELECT status || ' ' || step || ' ' || coalesce(convert_from(result, 'UTF8'), error,
CASE WHEN released_at IS NULL THEN '' ELSE 'released' END) FROM outbox.riverstep_run WHERE run_id = $1`), runID)
}

// jobState returns the state of a run's first job, "" if it is gone.
func (r *rig) jobState(runID string) string {
	r.t.Helper()
	return one[string](r.t, r.db.Pool, r.in(`SELECT coalesce((SELECT state::text FROM outbox.river_job `+jobOf+` ORDER BY id LIMIT 1), '')`), runID)
}

// awaitStanding waits until a run and its job are as wanted.
func (r *rig) awaitStanding(runID, run, job string) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for r.standing(runID) != run || r.jobState(runID) != job {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: the run is %q and the job %q, want %q and %q", runID, r.standing(runID), r.jobState(runID), run, job)
		}
		<-time.After(5 * time.Millisecond) // no event tells when both have changed
	}
}

// newStates submits a run for each case and starts the worker.
func newStates(t *testing.T) *states {
	s := &states{log: &lines{}, atIt: map[string]chan struct{}{}, goOn: map[string]chan struct{}{}, cases: map[string]doing{}}
	s.rig = newRig(t, riverstep.RunnerFunc(s.run), func(c *riverstep.Config, rc *river.Config) {
		c.Logger, c.SweepInterval, c.Wake = slog.New(slog.NewTextHandler(s.log, nil)), time.Hour, func() { s.wakes.Add(1) }
		rc.RetryPolicy, rc.Queues = late{}, map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 200}}
	})
	for what := range meanwhiles {
		for did, d := range doings {
			id := what + "_" + did
			s.atIt[id], s.goOn[id], s.cases[id] = make(chan struct{}), make(chan struct{}), d
			s.submit(riverstep.RunSpec{ID: id, Attempts: max(d.attempts, 5*(1-d.attempts))})
		}
	}
	s.start()
	return s
}

// TestOnlyTheWorkerThatHasTheJobSettlesItsStep combines each thing that can happen to a job with each end of its runner, and
// checks the run, the job and the outcome. Then a sweep ends the runs that no worker would end.
func TestOnlyTheWorkerThatHasTheJobSettlesItsStep(t *testing.T) {
	t.Parallel()
	s := newStates(t)
	s.until(func() bool { // the first sweep has ended, and the next one is due in an hour
		return one[int](t, s.db.Pool, s.in(`SELECT count(*) FROM outbox.river_job WHERE kind = 'workflow_sweep' AND state = 'completed'`)) == 1
	})
	for id := range s.cases {
		<-s.atIt[id]
		what, _, _ := strings.Cut(id, "_")
		s.execute(s.in(meanwhiles[what].sql), id)
		close(s.goOn[id])
	}
	lost := 0
	for id, d := range s.cases {
		what, _, _ := strings.Cut(id, "_")
		m := meanwhiles[what]
		if said := func() bool { return len(s.log.with("run_id="+id+" ")) > 0 }; m.lost {
			if s.until(said); t.Failed() {
				t.Fatalf("%s: the log does not say that the step was lost", id)
			}
			if line := s.log.with("run_id=" + id + " "); len(line) != 1 || !strings.Contains(line[0], "lost to another worker") {
				t.Errorf("%s: the log is %q, want one line that says lost to another worker", id, line)
			}
			lost++
		}
		run, job := m.wants(what, d)
		s.awaitStanding(id, run, job)
	}
	s.mustHaveReported()
	settled := one[int](t, s.db.Pool, s.in(`SELECT count(*) FROM outbox.riverstep_run WHERE status <> 'active' AND coalesce(error, '') <> 'elsewhere'`))
	s.until(func() bool { return int(s.wakes.Load()) == settled }) // one wake for each end of a run
	t.Logf("%d cases, %d of them lost, %d ended", len(s.cases), lost, settled)

	s.stop()
	sweeping := newRigOn(t, s.db, riverstep.RunnerFunc(s.run), func(c *riverstep.Config, rc *river.Config) {
		c.Wake, rc.RetryPolicy = func() { s.wakes.Add(1) }, late{}
	})
	sweeping.start()
	for id, d := range s.cases {
		what, _, _ := strings.Cut(id, "_")
		want := meanwhiles[what].wantsSwept(what, d)
		s.until(func() bool { return s.standing(id) == want })
		if got := s.standing(id); got != want {
			t.Fatalf("%s: after a sweep the run is %q, want %q", id, got, want)
		}
	}
	s.mustHaveReported()
}

// mustHaveReported checks that there is one message of each run that ended, with its end, and none of other runs.
func (s *states) mustHaveReported() {
	s.t.Helper()
	for name, sql := range map[string]string{
		"ended runs have no message, or one that differs from their end": `SELECT count(*) FROM outbox.riverstep_run r WHERE status <> 'active' AND coalesce(error, '') <> 'elsewhere' AND
1 <> (SELECT count(*) FROM outbox.message m WHERE m.dedupe_key = 'riverstep/' || r.instance AND
      (m.status, m.error, m.result, m.final_step) IS NOT DISTINCT FROM (r.status, r.error, r.result, r.step))`,
		"messages are of active runs": `SELECT count(*) FROM outbox.riverstep_run r JOIN outbox.message m ON m.dedupe_key = 'riverstep/' || r.instance
WHERE r.status = 'active'`,
	} {
		if n := one[int](s.t, s.db.Pool, s.in(sql)); n != 0 {
			s.t.Errorf("%d %s, want none", n, name)
		}
	}
}
