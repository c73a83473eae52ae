package worker

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// awaitNotReady waits until the worker is not ready for this reason, and until its row and one line of the log say so.
func (r *rig) awaitNotReady(w *Worker, lines *logLines, because string) {
	r.t.Helper()
	r.await("the worker is not ready: "+because, func() bool {
		err := w.Ready(r.t.Context())
		return err != nil && strings.Contains(err.Error(), because)
	})
	r.await("one line of the log says that the worker is not ready", func() bool { return lines.count("not ready: messages are not delivered") == 1 })
	r.await("the worker's row says why it is not ready", func() bool {
		return r.count(`SELECT count(*) FROM outbox.worker WHERE strpos(not_ready, $1) > 0`, because) == 1
	})
}

// readyRig returns the configuration of a worker with a short lease, so that seconds make it unready, and its log.
func readyRig(t *testing.T) (*rig, Config, *logLines) {
	t.Helper()
	r, lines := newRig(t), &logLines{}
	c := r.config()
	c.DeliveryTimeout, c.Lease = 2*time.Second, LeaseMargin+2*time.Second
	c.PollInterval = time.Second // long enough that a healthy scan is never three polls late
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	return r, c, lines
}

// TestAWorkerThatClaimsNothingIsNotReady: River's queue is paused, and no part of the worker sees an error.
func TestAWorkerThatClaimsNothingIsNotReady(t *testing.T) {
	t.Parallel()
	r, c, lines := readyRig(t)
	r.exec(`INSERT INTO outbox.river_queue (name, created_at, metadata, paused_at, updated_at) VALUES ('outbox_drain', now(), '{}', now(), now())`)
	w, _ := r.run(c)
	r.await("the worker is ready while nothing is due", func() bool { return w.Ready(t.Context()) == nil })
	id := r.writeTo(newReceiver(t, nil).URL, "run-1")
	r.awaitNotReady(w, lines, "nobody has claimed any")
	r.exec(`UPDATE outbox.river_queue SET paused_at = NULL`)
	r.awaitState(id, outbox.StateDelivered)
	r.await("the worker is ready again", func() bool { return w.Ready(t.Context()) == nil && lines.count("ready again") == 1 })
}

// TestAWorkerIsReadyWhileItsMessagesAreHeldBack: by a pause, a Retry-After, an open circuit breaker, a rate limit, or until
// their next attempt.
func TestAWorkerIsReadyWhileItsMessagesAreHeldBack(t *testing.T) {
	t.Parallel()
	r, c, lines := readyRig(t)
	for i, row := range []string{
		"true, NULL, 0, NULL, now()", "false, now() + interval '1 h', 0, NULL, now()", "false, now() + interval '1 h', 10, NULL, now()",
		"false, NULL, 0, 0.001, now()",
	} {
		to := newReceiver(t, nil).URL
		r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, open_until, failures, rate_per_second, granted_at, reason) VALUES ('` + to + `', ` + row + `, '')`)
		r.writeTo(to, "held"+string(rune('a'+i)))
	}
	r.due(newReceiver(t, nil).URL, 1, -3600)
	w, _ := r.run(c)
	end := time.Now().Add(c.Lease + 4*c.PollInterval) // if these messages made it unready, it would be so after the lease and two polls
	r.await("the time has passed after which it would be unready", func() bool {
		if err := w.Ready(t.Context()); err != nil && w.up.Load() {
			t.Fatalf("the worker is not ready: %v; want it ready", err)
		}
		return time.Now().After(end)
	})
	if n := lines.count("not ready"); n > 0 {
		t.Errorf("the log says %d times that the worker is not ready, want never", n)
	}
}

// TestAWorkerThatCannotScanIsNotReady: a table is locked.
func TestAWorkerThatCannotScanIsNotReady(t *testing.T) {
	t.Parallel()
	r, c, lines := readyRig(t)
	w, _ := r.run(c)
	r.await("the worker is ready", func() bool { return w.Ready(t.Context()) == nil })
	release := faulty.Hold(t, r.Pool, inSchema(`LOCK TABLE outbox.due IN ACCESS EXCLUSIVE MODE`, r.Schema))
	r.awaitNotReady(w, lines, "no scan for due messages succeeded")
	release()
	r.await("the worker is ready again", func() bool { return w.Ready(t.Context()) == nil })
}

// TestAWorkerThatCannotRecordIsNotReady: an answer waits for a lock, and everything else works.
func TestAWorkerThatCannotRecordIsNotReady(t *testing.T) {
	t.Parallel()
	r, c, lines := readyRig(t)
	c.Lease = 2 * testPatience
	arrived, answer := make(chan struct{}), make(chan struct{})
	to := newReceiver(t, func(http.ResponseWriter, request) {
		close(arrived)
		<-answer
	})
	c.DeliveryTimeout = testPatience
	w, _ := r.run(c)
	id := r.writeTo(to.URL, "run-1")
	<-arrived
	release := faulty.Hold(t, r.Pool, inSchema(`SELECT FROM outbox.due FOR UPDATE`, r.Schema))
	close(answer)
	r.awaitNotReady(w, lines, "to be recorded")
	release()
	r.awaitState(id, outbox.StateDelivered)
	r.await("the worker is ready again", func() bool { return w.Ready(t.Context()) == nil })
}
