package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestAnExpiredLeaseIsTakenUpAndTheLostAttemptKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	first := r.claimOne("one")
	if got := r.claim("two"); len(got) > 0 {
		t.Fatal("a message is claimed twice")
	}
	r.expireLeases()
	second := r.claimOne("two")
	if first.ID != id || first.Attempt != 1 || second.ID != id || second.Attempt != 2 {
		t.Errorf("attempts %d and %d", first.Attempt, second.Attempt)
	}
	d := r.state(id)
	if len(d.AttemptList) != 1 {
		t.Fatalf("attempts: %+v", d.AttemptList)
	}
	if a := d.AttemptList[0]; a.Attempt != 1 || a.Class != "lost" || a.Worker != "one" || a.StatusCode != nil || a.DurationMS != nil {
		t.Errorf("the lost attempt is kept as %+v", a)
	}
	r.record("two", results(second)["delivered"])
	d = r.state(id)
	if d.State != outbox.StateDelivered || len(d.AttemptList) != 2 || d.AttemptList[1].Worker != "two" {
		t.Errorf("%s after %+v", d.State, d.AttemptList)
	}
}

// TestAStaleWorkerChangesNoRow: the fence is the attempt's number and the lease's holder, and both of them.
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
				t.Errorf("%s by %s changed %v", name, what, changes)
			}
			if got := r.rows(); got != before {
				t.Errorf("%s by %s changed rows: %s\nbefore: %s", name, what, got, before)
			}
		}
	}
	r.record("two", results(taken)["delivered"])
	if r.rows() == before {
		t.Error("the worker that holds the lease changed nothing")
	}
}

func TestAnExpiredLeaseStillCountsWhileNobodyTookIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	m := r.claimOne("one")
	r.expireLeases()
	r.record("one", results(m)["delivered"])
	if d := r.state(id); d.State != outbox.StateDelivered {
		t.Errorf("the answer came late, nobody had taken the message over, and it is %s", d.State)
	}
}

// TestAnAttemptIsLostOnlyWhenItsMessageIsClaimed: a claim that may not send to the endpoint after all leaves no trace of
// a lost attempt, which would keep the worker that made it from recording its answer.
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
			t.Errorf("%d claimed without the endpoint's row", len(got))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.record("one", results(m)["delivered"])
	if d := r.state(id); d.State != outbox.StateDelivered || len(d.AttemptList) != 1 || d.AttemptList[0].Class != "delivered" {
		t.Errorf("it is %s after %+v", d.State, d.AttemptList)
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
		t.Fatalf("%d messages claimed", len(batch))
	}
	r.record("one", batch...)
	before := r.rows()
	if changes := r.record("one", batch...); len(changes) > 0 {
		t.Errorf("the second time it changed %v", changes)
	}
	if got := r.rows(); got != before {
		t.Errorf("the second time it changed rows: %s\nbefore: %s", got, before)
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
			t.Errorf("%s changed rows: %s\nbefore: %s", m.RunID, got, before)
		}
		if d := r.state(m.ID); d.State != outbox.StateCancelled || *d.DeadError != "enough" {
			t.Errorf("%s: it is %s", m.RunID, d.State)
		}
	}
}
