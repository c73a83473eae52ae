package riverstep_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

func TestKilledWorkersLeaveOneOutcomeForEachRun(t *testing.T) {
	t.Parallel()
	const workers, killing = 2, 6 * time.Second
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	// The test's own client works no steps. It is River's leader, so that the sweep does not depend on the killed workers.
	r := newRig(t, echo(), func(c *riverstep.Config, rc *river.Config) {
		rc.Queues, c.SweepInterval = map[string]river.QueueConfig{"idle": {MaxWorkers: 1}}, 200*time.Millisecond
	})
	r.execute(r.in(`CREATE TABLE outbox.settled (instance uuid, step bigint, PRIMARY KEY (instance, step))`))
	r.execute(r.in(`CREATE TABLE outbox.cancelled (run_id text)`))
	r.start()

	until := time.Now().Add(killing)
	var group errgroup.Group
	kills := make([]int, workers)
	for i := range workers {
		mine := rand.New(rand.NewPCG(seed, uint64(i+1)))
		group.Go(func() (err error) {
			for ; time.Now().Before(until) && err == nil; kills[i]++ {
				name := fmt.Sprintf("worker-%d-%d", i, kills[i])
				err = r.killWorker(name, mine.Uint64(), 40+mine.IntN(120), time.Duration(200+mine.IntN(1200))*time.Millisecond)
			}
			return err
		})
	}
	group.Go(func() error { return r.submitUntil(until, random) })
	must(t, group.Wait())

	last := r.db.Command("worker", childSeed+"=1", childDeadly+"=0", childName+"=last")
	in, err := last.StdinPipe()
	must(t, err)
	must(t, last.Start())
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.riverstep_run WHERE status = 'active'`)) == 0 {
			break
		}
	}
	r.mustAgree()
	if t.Failed() {
		t.Log(one[string](t, r.db.Pool, r.in(`SELECT coalesce(string_agg(concat_ws(' ', r.run_id, r.step, r.attempts, r.cancel_requested_at, r.released_at, j.*), E'\n'), '')
FROM outbox.riverstep_run r LEFT JOIN outbox.river_job j ON j.id = r.job_id WHERE r.status = 'active' OR j.state::text <> r.job_end`)))
	}
	must(t, in.Close())
	must(t, last.Wait())
	r.mustBeImplied()
	t.Logf("%d runs, %d of them cancelled from outside; %d workers killed", one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.riverstep_run`)),
		one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.riverstep_run WHERE status = 'cancelled' AND error = ''`)), kills[0]+kills[1])
}

// submitUntil submits runs, so that some are always active. It uses an id again once its run has ended.
func (r *rig) submitUntil(until time.Time, random *rand.Rand) error {
	for time.Now().Before(until) {
		id := fmt.Sprint("run-", random.IntN(120))
		// A few have one attempt only: a crash must end them.
		_, err := r.steps.Submit(r.t.Context(), riverstep.RunSpec{ID: id, Attempts: []int{1, 50, 50, 50}[random.IntN(4)]})
		if err != nil {
			return err
		}
		<-time.After(time.Duration(random.IntN(10)) * time.Millisecond)
	}
	return nil
}

// killWorker starts a worker and kills it after life, unless it kills itself earlier. Then it rescues the worker's jobs.
func (r *rig) killWorker(name string, seed uint64, deadly int, life time.Duration) error {
	cmd := r.db.Command("worker", fmt.Sprint(childSeed, "=", seed), fmt.Sprint(childDeadly, "=", deadly), childName+"="+name)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := cmd.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(life, func() { _ = cmd.Process.Kill() }) // the moment that the seed chose
	defer timer.Stop()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		return fmt.Errorf("%s ended by itself: %w", name, errors.Join(err, os.ErrInvalid))
	}
	return r.rescue(name)
}

// rescue does to a dead worker's jobs what River's rescuer does, which runs only every 30 seconds. It takes one job after the
// other, because the worker's last statement may still have locked several.
func (r *rig) rescue(name string) error {
	for left := 1; left > 0; <-time.After(5 * time.Millisecond) { // until the worker's backends, which may still take jobs, have ended
		err := r.db.Pool.QueryRow(r.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, r.db.Schema+name).Scan(&left)
		if err != nil {
			return err
		}
	}
	found, err := r.db.Pool.Query(r.t.Context(), r.in(`SELECT id FROM outbox.river_job
WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $1`), name)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[int64])
	for _, id := range ids {
		if err != nil {
			return err
		}
		_, err = r.db.Pool.Exec(r.t.Context(), r.in(`UPDATE outbox.river_job SET
state = CASE WHEN metadata ? 'cancel_attempted_at' THEN 'cancelled' WHEN attempt >= max_attempts THEN 'discarded' ELSE 'available' END::outbox.river_job_state,
finalized_at = CASE WHEN metadata ? 'cancel_attempted_at' OR attempt >= max_attempts THEN now() END,
errors = array_append(errors, jsonb_build_object('at', now(), 'attempt', attempt, 'error', 'Stuck job rescued by JobRescuer', 'trace', ''))
WHERE id = $1 AND state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $2`), id, name)
	}
	return err
}

// mustBeImplied compares each run with what its id implies, and its settled steps with the run.
func (r *rig) mustBeImplied() {
	r.t.Helper()
	found, err := r.db.Pool.Query(r.t.Context(), r.in(`SELECT r.run_id, r.status, coalesce(r.error, ''), coalesce(r.result, ''), r.step, r.attempts,
       coalesce(r.job_end, ''), EXISTS (SELECT FROM outbox.cancelled c WHERE c.run_id = r.run_id),
       (SELECT count(*) FROM outbox.settled s WHERE s.instance = r.instance AND s.step <= r.step)
FROM outbox.riverstep_run r`))
	must(r.t, err)
	defer found.Close()
	for found.Next() {
		var id, status, text, jobEnd string
		var result []byte
		var step, attempts, settled int
		var cancelled bool
		must(r.t, found.Scan(&id, &status, &text, &result, &step, &attempts, &jobEnd, &cancelled, &settled))
		steps, end := implied(id)
		v, verr := end(riverstep.Step{RunID: id, Attempt: 2})
		outside := status == "cancelled" && text == ""
		lost := status == "failed" && attempts == 1 // its only attempt crashed or failed
		want := step + 1                            // each step up to the last is settled
		if outside || lost || verr != nil {
			want = step // the last step ended without a verdict
		}
		switch {
		case outside && !cancelled:
			r.t.Errorf("%s is cancelled, and no worker cancelled it", id)
		case settled != want && !(lost && settled == step+1):
			r.t.Errorf("%s (%s %q): %d steps are settled, want %d", id, status, text, settled, want)
		case outside || lost:
		case step != steps:
			r.t.Errorf("%s ended at step %d, want %d", id, step, steps)
		case verr != nil && (status != "failed" || text != verr.Error()):
			r.t.Errorf("%s is %s %q, want failed with %v", id, status, text, verr)
		case verr == nil && !same(v, status, text, result, id):
			r.t.Errorf("%s is %s %q with the result %q, want what its id implies", id, status, text, result)
		}
	}
	must(r.t, found.Err())
}

func same(_ riverstep.Verdict, status, text string, result []byte, id string) bool {
	switch status {
	case "succeeded":
		return string(result) == id && text == ""
	case "failed":
		return text == id+" fails"
	}
	return text == id+" cancels"
}
