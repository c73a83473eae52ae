package worker

import (
	"net/http"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// An operator may write to outbox.due by hand, and the table has no constraint over several columns.

func TestARowThatWasEditedByHandIsDelivered(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]string{
		"an expired lease of nobody":   "attempt = 1, locked_until = now() - interval '1 s'",
		"a holder without a lease":     "attempt = 1, locked_by = 'somebody'",
		"a lease from long ago":        "attempt = 2, locked_by = 'somebody', locked_until = '2000-01-01'",
		"attempts_before over attempt": "attempts_before = 5",
		"due since 2000":               "due_at = '2000-01-01'",
		"due since -infinity":          "due_at = '-infinity'",
		"due since the year 4713 BC":   "due_at = '4713-01-01 BC'",
		"all attempts used up":         "attempt = 2147483647",
		"all used up, and a lease":     "attempt = 2147483647, locked_by = 'somebody', locked_until = '-infinity'",
		"attempts_before at its end":   "attempt = 0, attempts_before = 2147483647",
		"a lease that never ends":      "attempt = 1, locked_by = 'somebody', locked_until = 'infinity'",
		"a lease of a thousand years":  "attempt = 1, locked_by = 'somebody', locked_until = now() + interval '1000 years'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			box := newReceiver(t, nil)
			id := r.writeTo(box.URL, "run")
			r.exec("UPDATE outbox.due SET " + edit)
			r.run(r.config())
			r.awaitState(id, outbox.StateDelivered)
		})
	}
}

// TestAnEndpointThatWasEditedByHandIsServed: it also stops no other endpoint.
func TestAnEndpointThatWasEditedByHandIsServed(t *testing.T) {
	t.Parallel()
	for _, edit := range []string{
		"rate_per_second = 1e-13", "rate_per_second = 'NaN'", "rate_per_second = 'Infinity'", "granted_at = '-infinity', rate_per_second = 1",
		"granted_at = 'infinity', rate_per_second = 1", "open_until = '-infinity'", "max_in_flight = -1",
	} {
		t.Run(edit, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			box, other := newReceiver(t, nil), newReceiver(t, nil)
			r.exec(`ALTER TABLE outbox.endpoint DROP CONSTRAINT endpoint_rate_per_second, DROP CONSTRAINT endpoint_max_in_flight,
    DROP CONSTRAINT endpoint_open_until_range, DROP CONSTRAINT endpoint_granted_at_range`) // so that the row can be like one from before these constraints
			r.exec(`INSERT INTO outbox.endpoint (endpoint, granted_at, reason) VALUES ($1, now() - interval '1 h', '')`, box.URL)
			r.exec("UPDATE outbox.endpoint SET " + edit)
			id, healthy := r.writeTo(box.URL, "run"), r.writeTo(other.URL, "run")
			r.run(r.config())
			r.awaitState(healthy, outbox.StateDelivered)
			r.awaitState(id, outbox.StateDelivered)
		})
	}
}

func TestAMessageWhoseAttemptsAreUsedUpIsDeadAfterItsNextFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	box := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusInternalServerError) })
	id := r.writeTo(box.URL, "run")
	r.exec("UPDATE outbox.due SET attempt = 2147483647, attempts_before = 2147483647, locked_by = 'somebody', locked_until = '2000-01-01'")
	r.run(r.config())
	if d := r.awaitState(id, outbox.StateDead); text(d.DeadReason) != "exhausted" {
		t.Errorf("the message is dead as %s, want exhausted", text(d.DeadReason))
	}
}

func TestAMessageWithMoreAttemptsBeforeThanAttemptsIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	box := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusInternalServerError) })
	id := r.writeTo(box.URL, "run")
	r.exec("UPDATE outbox.due SET attempts_before = 5")
	r.run(r.once()) // its second attempt is due in an hour
	r.await("a first attempt is recorded", func() bool { return r.count("SELECT count(*) FROM outbox.attempt") > 0 })
	if m := r.state(id); m.State != outbox.StatePending && m.State != outbox.StateRetrying {
		t.Errorf("the message is %s after its first failure, want pending or retrying", m.State)
	}
}
