package worker

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// wakeRig runs a worker whose poll interval is longer than the test, so that only a wake makes it scan.
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
	r.await("the worker listens", func() bool { return r.listeners() == 1 })
	return r, w, waker.Wake
}

// listeners counts the sessions on which workers listen for wakes. The same sessions hold the workers' locks.
func (r *rig) listeners() int {
	return r.count(`SELECT count(*) FROM outbox.worker w JOIN pg_stat_activity a ON a.pid = w.pid AND a.application_name = $1`, r.Name)
}

func TestAWakeAfterTheCommitIsEnough(t *testing.T) {
	t.Parallel()
	r, _, wake := wakeRig(t)
	to := newReceiver(t, nil)
	for range 5 { // the first wake starts a drain, which still runs at the others
		id := r.writeTo(to.URL, "run")
		wake()
		r.awaitState(id, outbox.StateDelivered)
	}
}

// TestAWakeWorksAfterADrainEnded: within one long poll interval, a second wake must start a second drain.
func TestAWakeWorksAfterADrainEnded(t *testing.T) {
	t.Parallel()
	r, w, wake := wakeRig(t)
	to := newReceiver(t, nil)
	first := r.writeTo(to.URL, "run-1")
	wake()
	r.awaitState(first, outbox.StateDelivered)
	r.await("the drain ended", func() bool {
		wake() // nothing is due
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
	r.await("the worker listens again", func() bool { return r.listeners() == 1 })
	wake()
	r.awaitState(id, outbox.StateDelivered)
}

func TestWithoutWakesPollingGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(r.config())
	r.await("the worker listens", func() bool { return r.listeners() == 1 })
	to := newReceiver(t, nil)
	for range 3 {
		r.awaitState(r.writeTo(to.URL, "run"), outbox.StateDelivered)
	}
}
