package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestAMessageIsClaimedAgainAfterItsLeaseAndTheLostAttemptIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	first := r.claimOne("one")
	if got := r.claim("two"); len(got) > 0 {
		t.Fatalf("%d messages are claimed during another worker's lease, want none", len(got))
	}
	r.expireLeases()
	second := r.claimOne("two")
	if first.ID != id || first.Attempt != 1 || second.ID != id || second.Attempt != 2 {
		t.Errorf("the two claims are attempts %d and %d, want 1 and 2", first.Attempt, second.Attempt)
	}
	d := r.state(id)
	if len(d.AttemptList) != 1 {
		t.Fatalf("the attempts are %+v, want the lost one", d.AttemptList)
	}
	if a := d.AttemptList[0]; a.Attempt != 1 || a.Class != "lost" || a.Worker != "one" || a.StatusCode != nil || a.DurationMS != nil {
		t.Errorf("the lost attempt's row is %+v, want attempt 1 of worker one, lost", a)
	}
	r.record("two", results(second)["delivered"])
	d = r.state(id)
	if d.State != outbox.StateDelivered || len(d.AttemptList) != 2 || d.AttemptList[1].Worker != "two" {
		t.Errorf("the message is %s after %+v, want delivered after two attempts", d.State, d.AttemptList)
	}
}

// TestAStaleWorkerChangesNoRow: the fence compares both the attempt's number and the worker that has the lease.
func TestAStaleWorkerChangesNoRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://a.test/hook", "run-1")
	stale := r.claimOne("one")
	r.expireLeases()
	taken := r.claimOne("two")

	before := r.rows()
	for what, c := range map[string]struct {
		worker string
		m      Message
	}{
		"a worker whose lease was taken over": {"one", stale},
		"one under the attempt of another":    {"one", taken},
		"one under its earlier attempt":       {"two", stale},
	} {
		for name, result := range results(c.m) {
			if changes := r.record(c.worker, result); len(changes) > 0 {
				t.Errorf("%s by %s changed %v, want nothing", name, what, changes)
			}
			if got := r.rows(); got != before {
				t.Errorf("%s by %s changed rows, want none changed\nafter: %s\nbefore: %s", name, what, got, before)
			}
		}
	}
	r.record("two", results(taken)["delivered"])
	if r.rows() == before {
		t.Error("the result of the worker that has the lease changed no row")
	}
}

func TestALateAnswerCountsWhileNoOtherWorkerHasClaimedTheMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	m := r.claimOne("one")
	r.expireLeases()
	r.record("one", results(m)["delivered"])
	if d := r.state(id); d.State != outbox.StateDelivered {
		t.Errorf("after a late answer the message is %s, want delivered", d.State)
	}
}

// TestAnAttemptIsLostOnlyWhenItsMessageIsClaimed: a claim that does not take the message after all must not record a lost
// attempt. Otherwise the first worker could not record its answer.
func TestAnAttemptIsLostOnlyWhenItsMessageIsClaimed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	m := r.claimOne("one")
	r.expireLeases()
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ('https://a.test', $1, '')`, openAfter)
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error { // another worker is changing the endpoint
		if _, err := tx.Exec(t.Context(), sqlschema.In(`SELECT FROM outbox.endpoint FOR UPDATE`, r.Schema)); err != nil {
			return err
		}
		if got := r.claim("two"); len(got) > 0 {
			t.Errorf("%d messages are claimed while the endpoint's row is locked, want none", len(got))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.record("one", results(m)["delivered"])
	if d := r.state(id); d.State != outbox.StateDelivered || len(d.AttemptList) != 1 || d.AttemptList[0].Class != "delivered" {
		t.Errorf("the message is %s after %+v, want delivered after one attempt", d.State, d.AttemptList)
	}
}

func TestABatchRecordedTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	names := results(Message{})
	for name := range names {
		r.writeTo("https://"+name+".test/hook", name)
	}
	var batch []Result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)[m.RunID])
	}
	if len(batch) != len(names) {
		t.Fatalf("%d messages claimed, want %d", len(batch), len(names))
	}
	r.record("one", batch...)
	before := r.rows()
	if changes := r.record("one", batch...); len(changes) > 0 {
		t.Errorf("the second record changed %v, want nothing", changes)
	}
	if got := r.rows(); got != before {
		t.Errorf("the second record changed rows, want none changed\nafter: %s\nbefore: %s", got, before)
	}
}

func TestACancelledMessageStaysCancelledWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var ids []outbox.ID
	for name := range results(Message{}) {
		ids = append(ids, r.writeTo("https://"+name+".test/hook", name))
	}
	messages := r.claim("one")
	if err := r.store.Cancel(t.Context(), ids, "enough"); err != nil {
		t.Fatal(err)
	}
	before := r.rows()
	for _, m := range messages {
		r.record("one", results(m)[m.RunID])
		if got := r.rows(); got != before {
			t.Errorf("%s changed rows, want none changed\nafter: %s\nbefore: %s", m.RunID, got, before)
		}
		if d := r.state(m.ID); d.State != outbox.StateCancelled || *d.DeadError != "enough" {
			t.Errorf("%s: the message is %s, want cancelled", m.RunID, d.State)
		}
	}
}
