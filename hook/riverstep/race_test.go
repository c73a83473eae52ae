package riverstep_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

// racer is a runner that ends each run in a random way, at about the time when the test cancels it.
type racer struct {
	mu     sync.Mutex
	random *rand.Rand
	atIt   map[string]chan struct{}
}

func (r *racer) int64(n int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.Int64N(n)
}

// begun returns the channel that is closed when the runner of a run is called for the first time.
func (r *racer) begun(runID string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.atIt[runID] == nil {
		r.atIt[runID] = make(chan struct{})
	}
	return r.atIt[runID]
}

func (r *racer) RunStep(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
	if s.Number == 0 && s.Attempt == 1 {
		close(r.begun(s.RunID))
	}
	<-time.After(time.Duration(r.int64(int64(2 * time.Millisecond)))) // the moment that the seed chose
	if s.Number > 0 || s.Attempt > 1 {
		return riverstep.Succeed(nil), nil
	}
	switch r.int64(6) {
	case 0:
		return riverstep.Continue(nil), nil
	case 1:
		return riverstep.Fail("for good"), nil
	case 2:
		return riverstep.Cancel("for a reason of its own"), nil
	case 3:
		return riverstep.Verdict{}, errors.New("busy")
	case 4:
		return riverstep.Verdict{}, riverstep.Permanent(errors.New("for good"))
	}
	return riverstep.Succeed(nil), nil
}

func TestACancelThatRacesTheSettlingCommitLeavesOneOutcome(t *testing.T) {
	t.Parallel()
	const races, atOnce = 500, 8
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	racer := &racer{random: rand.New(rand.NewPCG(seed, 0)), atIt: map[string]chan struct{}{}}
	r := newRig(t, racer, func(_ *riverstep.Config, rc *river.Config) {
		rc.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2 * atOnce}}
	})
	r.start()
	answers := make([]error, races)
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range races {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			id := fmt.Sprint("race-", i)
			if _, err := r.steps.Submit(ctx, riverstep.RunSpec{ID: id, Attempts: 2}); err != nil {
				return err
			}
			select {
			case <-racer.begun(id):
			case <-ctx.Done():
				return ctx.Err()
			}
			<-time.After(time.Duration(racer.int64(int64(4 * time.Millisecond)))) // the moment that the seed chose
			answers[i] = r.steps.Cancel(ctx, id)
			_, err := r.steps.Wait(ctx, id)
			return err
		})
	}
	must(t, group.Wait())
	won := 0
	for i, answer := range answers {
		if r.mustHaveOneEnd(fmt.Sprint("race-", i), answer) {
			won++
		}
	}
	t.Logf("%d races: the cancel came first in %d", races, won)
	if won < races/20 || won > races*19/20 {
		t.Errorf("the cancel came first in %d of %d races, want both orders often", won, races)
	}
	r.mustAgree()
}

// mustHaveOneEnd reports whether the cancel came first.
func (r *rig) mustHaveOneEnd(id string, answer error) bool {
	r.t.Helper()
	got, err := r.steps.Status(r.t.Context(), id)
	must(r.t, err)
	outside := got.State == riverstep.Cancelled && got.Error == ""
	switch {
	case answer == nil && got.State != riverstep.Cancelled:
		r.t.Errorf("%s: Cancel returned nil, and the run is %+v, want cancelled", id, got)
	case errors.Is(answer, riverstep.ErrEnded) && outside:
		r.t.Errorf("%s: Cancel returned ErrEnded, and the run is %+v, want its own end", id, got)
	case answer != nil && !errors.Is(answer, riverstep.ErrEnded):
		r.t.Errorf("%s: Cancel returns %v, want nil or ErrEnded", id, answer)
	}
	return outside
}

// mustAgree compares all runs with their messages and jobs, once every job has ended.
func (r *rig) mustAgree() {
	r.t.Helper()
	in := func(sql string) int { return one[int](r.t, r.db.Pool, r.in(sql)) }
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if in(`SELECT count(*) FROM outbox.river_job WHERE kind = 'workflow_step' AND finalized_at IS NULL`) == 0 {
			break
		}
	}
	for name, sql := range map[string]string{
		"runs that did not end":                   `SELECT count(*) FROM outbox.riverstep_run WHERE status = 'active'`,
		"runs without exactly one message":        `SELECT count(*) FROM outbox.riverstep_run r WHERE 1 <> (SELECT count(*) FROM outbox.message m WHERE m.dedupe_key = 'riverstep/' || r.instance)`,
		"messages of no run":                      `SELECT count(*) FROM outbox.message m WHERE NOT EXISTS (SELECT FROM outbox.riverstep_run r WHERE m.dedupe_key = 'riverstep/' || r.instance)`,
		"messages that differ from their run":     `SELECT count(*) FROM outbox.riverstep_run r JOIN outbox.message m ON m.dedupe_key = 'riverstep/' || r.instance WHERE (m.status, m.error, m.result, m.final_step, m.run_id) IS DISTINCT FROM (r.status, r.error, r.result, r.step, r.run_id)`,
		"jobs whose end differs from their run's": `SELECT count(*) FROM outbox.riverstep_run r JOIN outbox.river_job j ON j.id = r.job_id WHERE j.state::text <> r.job_end`,
		"jobs of later steps":                     `SELECT count(*) FROM outbox.riverstep_run r JOIN outbox.river_job j ON j.args->>'instance' = r.instance::text WHERE (j.args->>'step')::bigint > r.step`,
		"steps without exactly one job":           `SELECT count(*) FROM outbox.riverstep_run r, generate_series(0, r.step) n WHERE 1 <> (SELECT count(*) FROM outbox.river_job j WHERE j.args->>'instance' = r.instance::text AND (j.args->>'step')::bigint = n)`,
		"earlier steps that are not settled":      `SELECT count(*) FROM outbox.riverstep_run r JOIN outbox.river_job j ON j.args->>'instance' = r.instance::text WHERE (j.args->>'step')::bigint < r.step AND j.state <> 'completed'`,
	} {
		if n := in(sql); n != 0 {
			r.t.Errorf("%d %s, want none", n, name)
		}
	}
}
