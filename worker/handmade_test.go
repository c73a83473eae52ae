package worker

import (
	"net/http"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// An operator may write to outbox.due by hand, and the table holds no rule over several columns (migrations).

func TestARowThatWasEditedByHandIsDelivered(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]string{
		"a lease of nobody that ran out": "attempt = 1, locked_until = now() - interval '1 s'",
		"a holder without a lease":       "attempt = 1, locked_by = 'somebody'",
		"a lease from long ago":          "attempt = 2, locked_by = 'somebody', locked_until = '2000-01-01'",
		"more attempts before than made": "attempts_before = 5",
		"due since for ever":             "due_at = '2000-01-01'",
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

func TestARowWithMoreAttemptsBeforeThanMadeIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	box := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusInternalServerError) })
	id := r.writeTo(box.URL, "run")
	r.exec("UPDATE outbox.due SET attempts_before = 5")
	r.run(r.config())
	r.await("a first attempt on record", func() bool { return r.count("SELECT count(*) FROM outbox.attempt") > 0 })
	if m := r.state(id); m.State != outbox.StatePending && m.State != outbox.StateRetrying {
		t.Errorf("the message is %s after its first failure", m.State)
	}
}
