package worker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// TestAReplayedMessageHasAllAttemptsAgain: the retry schedule begins anew, and the attempts' numbers go on.
func TestAReplayedMessageHasAllAttemptsAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusBadGateway) })
	id := r.writeTo(to.URL, "run-1")
	r.run(r.config()) // its schedule has two waits, so there are three attempts
	for attempts := 3; attempts <= 6; attempts += 3 {
		d := r.awaitState(id, outbox.StateDead)
		if *d.DeadReason != "exhausted" || !strings.Contains(*d.DeadError, "502") {
			t.Errorf("the message is dead as %s: %s; want exhausted, by a 502", *d.DeadReason, *d.DeadError)
		}
		if d.Attempts != attempts || len(d.AttemptList) != attempts || len(to.requests()) != attempts {
			t.Fatalf("%d attempts, %d rows, %d requests; want %d", d.Attempts, len(d.AttemptList), len(to.requests()), attempts)
		}
		for i, a := range d.AttemptList {
			if a.Attempt != i+1 {
				t.Errorf("attempt %d has the number %d", i+1, a.Attempt)
			}
		}
		if attempts == 3 {
			if _, err := r.store.Replay(t.Context(), []outbox.ID{id}, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, got := range to.requests() {
		if got.id != id.String() {
			t.Errorf("a request has the webhook-id %s, want %s", got.id, id)
		}
	}
}

func TestADeliveredMessageCanBeReplayed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	id := r.writeTo(to.URL, "run-1")
	r.run(r.config())
	r.awaitState(id, outbox.StateDelivered)
	if _, err := r.store.Replay(t.Context(), []outbox.ID{id}, ""); err != nil {
		t.Fatal(err)
	}
	r.await("the message is delivered again", func() bool { return len(r.state(id).AttemptList) == 2 })
	if d := r.state(id); d.State != outbox.StateDelivered || d.AttemptList[1].Attempt != 2 {
		t.Errorf("the message is %s after %+v; want it delivered, after attempts 1 and 2", d.State, d.AttemptList)
	}
}

// A message's own timeout counts when it is shorter than the worker's.
func TestAMessagesOwnTimeoutIsNeverLongerThanTheWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newSocket(t, hang)
	write := func(runID string, timeout time.Duration) outbox.ID {
		return r.write(outbox.Message{
			Outcome: testdb.Outcome(runID, to.URL), URL: to.URL, Options: outbox.Options{Timeout: timeout},
		})
	}
	wants := map[outbox.ID]string{
		write("shorter", 50*time.Millisecond): "50ms",
		write("longer", time.Hour):            "200ms",
		write("none", 0):                      "200ms",
	}
	c := r.once()
	c.DeliveryTimeout = 200 * time.Millisecond
	r.run(c)
	r.awaitAttempts()
	for id, want := range wants {
		d := r.state(id)
		if d.State != outbox.StateRetrying || *d.LastClass != delivery.ClassTimeout || !strings.Contains(*d.LastError, want) {
			t.Errorf("%s: %s, %s: %s; want a timeout of %s", d.RunID, d.State, *d.LastClass, *d.LastError, want)
		}
	}
}

func TestARetryIsDueWhenTheScheduleSays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo(newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(500) }).URL, "run-1")
	c, jitter := r.config(), 0.0
	c.RetrySchedule, c.RetryJitter = []time.Duration{time.Hour}, &jitter
	r.run(c)
	r.awaitAttempts()
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE due_at BETWEEN now() + interval '59 min' AND now() + interval '1 h'`); n != 1 {
		t.Errorf("%d messages are due in an hour, want 1", n)
	}
	r.exec(`UPDATE outbox.due SET due_at = due_at - interval '1 h'`) // as if an hour passed by the database's clock
	d := r.awaitState(id, outbox.StateDead)
	if *d.DeadReason != "exhausted" || d.Attempts != 2 {
		t.Errorf("the message is dead as %s after %d attempts, want exhausted after 2", *d.DeadReason, d.Attempts)
	}
}
