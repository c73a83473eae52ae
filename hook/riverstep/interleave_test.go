package riverstep_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The tests here run two transactions that exclude each other. They stop one in the middle, let the other run until it waits,
// and then let the first one continue. They do so in both orders.

// gate is a point at which a test stops a goroutine.
type gate struct {
	reached, open chan struct{}
	once          sync.Once
}

func newGate(t *testing.T) *gate {
	g := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	t.Cleanup(g.letGo)
	return g
}

// stop waits at the gate, when it is called for the first time.
func (g *gate) stop() {
	select {
	case <-g.reached:
	default:
		close(g.reached)
		<-g.open
	}
}

func (g *gate) letGo() { g.once.Do(func() { close(g.open) }) }

// awaitWaiter waits until some session of the test waits for a lock.
func (r *rig) awaitWaiter() {
	r.t.Helper()
	r.until(func() bool {
		return one[int](r.t, r.db.Pool, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'`, r.db.Name) > 0
	})
}

// mustEndAs checks how the run ended, and that one message reports it.
func (r *rig) mustEndAs(state riverstep.State, reason string) {
	r.t.Helper()
	got := r.wait(runID)
	if got.State != state || got.Error != reason {
		r.t.Errorf("the run is %+v, want %s %q", got, state, reason)
	}
	if all := r.messages(runID); len(all) != 1 || string(all[0].Status) != string(state) {
		r.t.Errorf("%d messages report it: %+v; want 1, with the run's status", len(all), all)
	}
}

// TestACancelThatComesDuringASettlingIsTooLate: the settling has locked the job and ended the run, but is not committed.
func TestACancelThatComesDuringASettlingIsTooLate(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]riverstep.Verdict{"an end": riverstep.Succeed(nil), "a next step": riverstep.Continue(nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settling, second := newGate(t), newGate(t)
			r := newRig(t, riverstep.RunnerFunc(func(ctx context.Context, s riverstep.Step) (riverstep.Verdict, error) {
				if s.Number > 0 {
					second.stop()
					return riverstep.Continue(nil), nil
				}
				return verdict.With(func(context.Context, pgx.Tx) error { settling.stop(); return nil }), nil
			}), nil)
			r.start()
			r.submit(riverstep.RunSpec{ID: runID})
			<-settling.reached
			answer := make(chan error, 1)
			go func() { answer <- r.steps.Cancel(t.Context(), runID) }()
			r.awaitWaiter()
			settling.letGo()
			err := <-answer
			second.letGo()
			if name == "an end" {
				if !errors.Is(err, riverstep.ErrEnded) {
					t.Errorf("Cancel returns %v, want ErrEnded", err)
				}
				r.mustEndAs(riverstep.Succeeded, "")
				return
			}
			if err != nil { // it finds the run at its next step
				t.Errorf("Cancel returns %v, want no error", err)
			}
			r.mustEndAs(riverstep.Cancelled, "")
		})
	}
}

// TestASettlingThatComesDuringACancelEndsTheRunAsCancelled: the cancel has locked the job, but is not committed.
func TestASettlingThatComesDuringACancelEndsTheRunAsCancelled(t *testing.T) {
	t.Parallel()
	for name, returned := range map[string]struct {
		verdict riverstep.Verdict
		err     error
	}{
		"an end": {riverstep.Succeed(nil), nil}, "a next step": {riverstep.Continue(nil), nil}, "an error": {riverstep.Verdict{}, errors.New("busy")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running := newGate(t)
			r := newRig(t, riverstep.RunnerFunc(func(context.Context, riverstep.Step) (riverstep.Verdict, error) {
				running.stop()
				return returned.verdict, returned.err
			}), func(_ *riverstep.Config, rc *river.Config) { rc.RetryPolicy = late{} })
			r.start()
			r.submit(riverstep.RunSpec{ID: runID})
			<-running.reached
			tx, err := r.db.NewPool(t, nil).Begin(context.Background())
			must(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			must(t, r.steps.CancelTx(t.Context(), tx, runID))
			running.letGo()
			r.awaitWaiter()
			must(t, tx.Commit(t.Context()))
			r.mustEndAs(riverstep.Cancelled, "")
			if n := len(r.calls.all()); n != 1 {
				t.Errorf("the runner was called %d times, want once", n)
			}
		})
	}
}

// gated is a hook that stops its first caller at a gate.
type gated struct {
	hook.TerminalHook
	at *gate
}

func (g gated) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	g.at.stop()
	return g.TerminalHook.OnTermination(ctx, tx, o)
}

// orphan submits a run and discards its job. The sweep ends such a run, and stops at the gate if there is one.
func orphan(t *testing.T, at *gate, wakes *atomic.Int32) (*rig, *lines) {
	t.Helper()
	log := &lines{}
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) {
		c.SweepInterval, c.Logger, c.Wake = 100*time.Millisecond, slog.New(slog.NewTextHandler(log, nil)), func() { wakes.Add(1) }
		if at != nil {
			c.Hook = gated{c.Hook, at}
		}
	})
	r.submit(riverstep.RunSpec{ID: runID})
	r.execute(r.in(`UPDATE outbox.river_job SET state = 'discarded', finalized_at = now()`))
	return r, log
}

// TestACancelThatComesDuringASweepIsTooLate: the sweep has locked the job and ended the run, but is not committed.
func TestACancelThatComesDuringASweepIsTooLate(t *testing.T) {
	t.Parallel()
	sweeping, wakes := newGate(t), atomic.Int32{}
	r, _ := orphan(t, sweeping, &wakes)
	r.start()
	<-sweeping.reached
	answer := make(chan error, 1)
	go func() { answer <- r.steps.Cancel(t.Context(), runID) }()
	r.awaitWaiter()
	sweeping.letGo()
	if err := <-answer; !errors.Is(err, riverstep.ErrEnded) {
		t.Errorf("Cancel returns %v, want ErrEnded", err)
	}
	r.mustEndAs(riverstep.Failed, "the step's job was discarded")
	r.until(func() bool { return wakes.Load() == 1 }) // the wake comes from the sweep: a cancel that ended no run makes none
}

func TestASweepThatComesDuringACancelDoesNotEndTheRun(t *testing.T) {
	t.Parallel()
	wakes := atomic.Int32{}
	r, log := orphan(t, nil, &wakes)
	tx, err := r.db.NewPool(t, nil).Begin(context.Background())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	must(t, r.steps.CancelTx(t.Context(), tx, runID))
	r.start()
	r.until(func() bool { return len(log.with("55P03")) > 0 }) // a sweep met the lock
	must(t, tx.Commit(t.Context()))
	swept := r.sweeps()
	r.until(func() bool { return r.sweeps() > swept+1 }) // a sweep that began after the commit has ended
	r.mustEndAs(riverstep.Cancelled, "")
	if n := wakes.Load(); n != 0 {
		t.Errorf("%d wakes, want none: the sweep did not end the run", n)
	}
}

// sweeps counts the sweeps that have ended.
func (r *rig) sweeps() int {
	r.t.Helper()
	return one[int](r.t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.river_job WHERE kind = 'workflow_sweep' AND finalized_at IS NOT NULL`))
}
