package worker

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// wakeRig is a worker that would not look by itself as long as the test lasts.
func wakeRig(t *testing.T) (r *rig, w *Worker, wake func()) {
	t.Helper()
	r = newRig(t)
	waker, err := outbox.NewWaker(r.Pool, r.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = waker.Close(t.Context()) })
	c := r.config()
	c.PollInterval = time.Hour
	w, _ = r.run(c)
	r.await("it listens", func() bool { return r.listeners() == 1 })
	return r, w, waker.Wake
}

// listeners counts the sessions on which wakes are awaited: they hold the workers' locks, too.
func (r *rig) listeners() int {
	return r.count(`SELECT count(*) FROM outbox.worker w JOIN pg_stat_activity a ON a.pid = w.pid AND a.application_name = $1`, r.Schema)
}

func TestAWakeAfterTheCommitIsEnough(t *testing.T) {
	t.Parallel()
	r, _, wake := wakeRig(t)
	to := newReceiver(t, nil)
	for range 5 { // the first one rings for a drain, the others find it lingering
		id := r.writeTo(to.URL, "run")
		wake()
		r.awaitState(id, outbox.StateDelivered)
	}
}

// TestAWakeIsHeardAfterADrainEnded: a long poll interval must not keep the doorbell from ringing twice within it.
func TestAWakeIsHeardAfterADrainEnded(t *testing.T) {
	t.Parallel()
	r, w, wake := wakeRig(t)
	to := newReceiver(t, nil)
	first := r.writeTo(to.URL, "run-1")
	wake()
	r.awaitState(first, outbox.StateDelivered)
	r.await("the drain ended", func() bool {
		wake() // with nothing due
		return !w.scheduler.Draining()
	})
	second := r.writeTo(to.URL, "run-2")
	wake()
	r.awaitState(second, outbox.StateDelivered)
}

func TestAListenerThatIsCutOffListensAgain(t *testing.T) {
	t.Parallel()
	r, _, wake := wakeRig(t)
	cut := r.count(`SELECT count(pg_terminate_backend(pid)) FROM outbox.worker`)
	if cut != 1 {
		t.Fatalf("%d connections cut, want 1", cut)
	}
	id := r.writeTo(newReceiver(t, nil).URL, "run-1")
	r.await("it listens again", func() bool { return r.listeners() == 1 })
	wake()
	r.awaitState(id, outbox.StateDelivered)
}

func TestWithoutWakesPollingGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(r.config())
	r.await("it listens", func() bool { return r.listeners() == 1 })
	to := newReceiver(t, nil)
	for range 3 {
		r.awaitState(r.writeTo(to.URL, "run"), outbox.StateDelivered)
	}
}
