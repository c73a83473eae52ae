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

// awaitNotReady waits until the worker says that it is not ready because of something, and that the log, once, and its row say so.
func (r *rig) awaitNotReady(w *Worker, lines *logLines, because string) {
	r.t.Helper()
	r.await("it is not ready: "+because, func() bool {
		err := w.Ready(r.t.Context())
		return err != nil && strings.Contains(err.Error(), because)
	})
	r.await("the log says so", func() bool { return lines.count("not ready: messages are not delivered") == 1 })
	r.await("its row says so", func() bool {
		return r.count(`SELECT count(*) FROM outbox.worker WHERE strpos(not_ready, $1) > 0`, because) == 1
	})
}

// readyRig is a worker with a short lease, and its log. What is late by its measures is so by seconds.
func readyRig(t *testing.T) (*rig, Config, *logLines) {
	t.Helper()
	r, lines := newRig(t), &logLines{}
	c := r.config()
	c.DeliveryTimeout, c.Lease = 2*time.Second, LeaseMargin+2*time.Second
	c.PollInterval = time.Second // so that no healthy scan is late by three polls
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	return r, c, lines
}

// TestAWorkerThatClaimsNothingIsNotReady: River's queue is paused, which no part of the worker fails by.
func TestAWorkerThatClaimsNothingIsNotReady(t *testing.T) {
	t.Parallel()
	r, c, lines := readyRig(t)
	r.exec(`INSERT INTO outbox.river_queue (name, created_at, metadata, paused_at, updated_at) VALUES ('outbox_drain', now(), '{}', now(), now())`)
	w, _ := r.run(c)
	r.await("it is ready while nothing is due", func() bool { return w.Ready(t.Context()) == nil })
	id := r.writeTo(newReceiver(t, nil).URL, "run-1")
	r.awaitNotReady(w, lines, "nobody has claimed any")
	r.exec(`UPDATE outbox.river_queue SET paused_at = NULL`)
	r.awaitState(id, outbox.StateDelivered)
	r.await("it is ready again", func() bool { return w.Ready(t.Context()) == nil && lines.count("ready again") == 1 })
}

// TestWhatIsHeldBackDoesNotMakeAWorkerUnready: paused, behind an open circuit breaker, at its rate, waiting for a key or for
// its next attempt.
func TestWhatIsHeldBackDoesNotMakeAWorkerUnready(t *testing.T) {
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
	end := time.Now().Add(c.Lease + 4*c.PollInterval) // it would say so after two
	r.await("the time has passed in which it would say so", func() bool {
		if err := w.Ready(t.Context()); err != nil && w.up.Load() {
			t.Fatalf("it is not ready: %v", err)
		}
		return time.Now().After(end)
	})
	if n := lines.count("not ready"); n > 0 {
		t.Errorf("the log says so %d times", n)
	}
}

// TestAWorkerThatCannotScanIsNotReady: a table is locked.
func TestAWorkerThatCannotScanIsNotReady(t *testing.T) {
	t.Parallel()
	r, c, lines := readyRig(t)
	w, _ := r.run(c)
	r.await("it is ready", func() bool { return w.Ready(t.Context()) == nil })
	release := faulty.Hold(t, r.Pool, inSchema(`LOCK TABLE outbox.due IN ACCESS EXCLUSIVE MODE`, r.Schema))
	r.awaitNotReady(w, lines, "no scan for due messages succeeded")
	release()
	r.await("it is ready again", func() bool { return w.Ready(t.Context()) == nil })
}

// TestAWorkerThatCannotRecordIsNotReady: an answer waits, and nothing else is at fault.
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
	r.await("it is ready again", func() bool { return w.Ready(t.Context()) == nil })
}
