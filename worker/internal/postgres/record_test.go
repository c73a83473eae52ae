package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestNothingIsWrittenOfABatchThatTheDatabaseRefuses, and its error says that another try does not help.
func TestNothingIsWrittenOfABatchThatTheDatabaseRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Result){
		"an invalid reason":      func(x *Result) { x.Action, x.Reason = ActionDead, "because" },
		"text that is not UTF-8": func(x *Result) { x.Response = "\xff" },
		"an invalid status":      func(x *Result) { x.StatusCode = 42 },
		"an invalid class":       func(x *Result) { x.Action, x.Class = ActionRetry, "unlucky" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for range 3 {
				r.writeTo("https://a.test/hook", "run")
			}
			var batch []Result
			for _, m := range r.claim("one") {
				batch = append(batch, results(m)["delivered"])
			}
			good := batch[2]
			spoil(&batch[1])
			before := r.rows()
			changes, err := r.recorder("one").Record(t.Context(), batch)
			if !IsRefusal(err) || len(changes) > 0 {
				t.Errorf("Record returns %v, %v; want no changes and a refusal", changes, err)
			}
			if got := r.rows(); got != before {
				t.Errorf("the record changed rows, want none changed\nafter: %s\nbefore: %s", got, before)
			}
			r.record("one", good)
			if n := r.count(`SELECT count(*) FROM outbox.due`); n != 2 {
				t.Errorf("%d messages are due after one of three was recorded by itself, want 2", n)
			}
		})
	}
}

func TestAnErrorThatMayPassIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("connection reset"), pgx.ErrNoRows, &pgconn.PgError{Code: "57P01"}, &pgconn.PgError{Code: "40001"}} {
		if IsRefusal(err) {
			t.Errorf("IsRefusal(%v) is true, want false", err)
		}
	}
	if !IsRefusal(fmt.Errorf("record: %w", &pgconn.PgError{Code: "23514"})) {
		t.Error("IsRefusal of a constraint violation is false, want true")
	}
}

// TestABatchOfEveryKindIsOneTransaction: no other session sees a part of it.
func TestABatchOfEveryKindIsOneTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const fifth = 100
	for i := range 5 * fifth {
		r.writeTo(fmt.Sprintf("https://host-%d.test/hook", i%7), "run")
	}
	var batch []Result
	for i, m := range r.claim("one") {
		batch = append(batch, results(m)[[]string{"delivered", "retried", "refused", "gone", "released"}[i%5]])
	}
	changes := r.record("one", batch...)
	for what, c := range map[string]struct {
		sql  string
		want int
	}{
		"attempts":       {`SELECT count(*) FROM outbox.attempt`, 4 * fifth}, // all except the released ones
		"dead":           {`SELECT count(*) FROM outbox.dead`, 2 * fifth},    // refused and gone
		"due":            {`SELECT count(*) FROM outbox.due`, 2 * fifth},     // retried and released
		"still leased":   {`SELECT count(*) FROM outbox.due WHERE locked_by IS NOT NULL`, 0},
		"released":       {`SELECT count(*) FROM outbox.due WHERE attempt = 0`, fifth},
		"held endpoints": {`SELECT count(*) FROM outbox.endpoint WHERE failures = 0 AND open_until > now()`, 7},
		"transactions": {`SELECT count(DISTINCT x.xmin::text) FROM (SELECT xmin FROM outbox.dead UNION ALL SELECT xmin FROM outbox.endpoint
UNION ALL SELECT xmin FROM outbox.attempt UNION ALL SELECT xmin FROM outbox.due) x`, 1},
	} {
		if n := r.count(c.sql); n != c.want {
			t.Errorf("%s: %d, want %d", what, n, c.want)
		}
	}
	if len(changes) != 0 {
		t.Errorf("the record changed %+v, want no endpoint: each had an answer in the batch", changes)
	}
}

func TestAnEmptyBatchIsNoError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if changes := r.record("one"); len(changes) > 0 {
		t.Errorf("an empty batch changed %v, want nothing", changes)
	}
}

func TestTheAttemptsRowHoldsAllThatWasMeasured(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	x := results(r.claimOne("one"))["refused"]
	x.StartedAt, x.Duration = time.Now().Add(-time.Hour), 1234*time.Millisecond
	x.Response, x.Note = "no such thing", "left out: nothing"
	r.record("one", x)
	a := r.state(id).AttemptList[0]
	if *a.DurationMS != 1234 || *a.StatusCode != 404 || *a.Error != "answered 404" || *a.Response != x.Response || *a.Note != x.Note {
		t.Errorf("the attempt's row is %+v, want all that the result holds", a)
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE started_at BETWEEN now() - interval '61 min' AND now() - interval '60 min'`); n != 1 {
		t.Errorf("the attempt began at %v, want an hour before %v", a.StartedAt, time.Now())
	}
}

// TestADeliveryLeavesTheSameRowsWhicheverStatementRecordsIt: one statement records it when it is alone at its endpoint, another
// one beside a result of another kind.
func TestADeliveryLeavesTheSameRowsWhicheverStatementRecordsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, url := range []string{"https://alone.test/hook", "https://mixed.test/hook", "https://mixed.test/hook"} {
		r.writeTo(url, "run")
	}
	var batch []Result
	kinds := map[string][]string{"https://alone.test": {"delivered"}, "https://mixed.test": {"delivered", "released"}}
	for _, m := range r.claim("one") {
		x := results(m)[kinds[m.Endpoint][0]]
		kinds[m.Endpoint] = kinds[m.Endpoint][1:]
		x.StartedAt, x.Duration, x.Response, x.Note = time.Now().Add(-time.Hour), 1234*time.Millisecond, "thanks", "left out: nothing"
		batch = append(batch, x)
	}
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, openings, reason, since)
SELECT 'https://' || name || '.test', 3, 0, 'failing: reset', now() - interval '1 h' FROM unnest(ARRAY['alone', 'mixed']) AS name`)
	if alone, mixed := split(batch); len(alone) != 1 || len(mixed) != 2 {
		t.Fatalf("one statement records %d results and the other %d, want 1 and 2", len(alone), len(mixed))
	}
	changes := r.record("one", batch...)
	for what, sql := range map[string]string{
		"kinds of attempts": `SELECT count(DISTINCT to_jsonb(a) - 'message_id' - 'started_at') FROM outbox.attempt a`,
		"kinds of health":   `SELECT count(DISTINCT to_jsonb(e) - 'endpoint') FROM outbox.endpoint e`,
		"due":               `SELECT count(*) FROM outbox.due`, // the released one
	} {
		if n := r.count(sql); n != 1 {
			t.Errorf("%s: %d, want 1", what, n)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != 2 {
		t.Errorf("%d attempts are recorded, want 2", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE failures = 0 AND reason = 'answers' AND since > now() - interval '1 min'`); n != 2 {
		t.Errorf("%d endpoints answer again, want both", n)
	}
	for _, c := range changes {
		if c.What != EndpointClosed || c.Reason != "answers" || c.OpenUntil != nil {
			t.Errorf("the record changed %+v, want the circuit breaker closed", c)
		}
	}
	if len(changes) != 2 {
		t.Errorf("the record returns %d changes, want 2", len(changes))
	}
}

// TestAMessageThatWasNotSentHasNoAttempt: a released one is due as before. One that waits is due later, and its row says what it
// waits for.
func TestAMessageThatWasNotSentHasNoAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ids := map[string]outbox.ID{}
	for _, name := range []string{"released", "waiting"} {
		ids[name] = r.writeTo("https://"+name+".test/hook", name)
	}
	before := one[time.Time](r, `SELECT due_at FROM outbox.due WHERE message_id = $1`, ids["released"])
	var batch []Result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)[m.RunID])
	}
	r.record("one", batch...)
	for name, id := range ids {
		d := r.state(id)
		if d.State != outbox.StatePending || d.Attempts != 0 || len(d.AttemptList) != 0 || d.LockedBy != nil {
			t.Errorf("%s: the message is %s after %d attempts (%d in the list), leased to %v; want it pending after none, leased to nobody", name, d.State, d.Attempts, len(d.AttemptList), d.LockedBy)
		}
		if waits := name == "waiting"; (d.WaitsFor != nil) != waits {
			t.Errorf("%s: the message waits for %v, want that only of the waiting one", name, d.WaitsFor)
		}
	}
	if after := one[time.Time](r, `SELECT due_at FROM outbox.due WHERE message_id = $1`, ids["released"]); !after.Equal(before) {
		t.Errorf("the released message is due at %v, want %v as before", after, before)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE due_at > now() + interval '59 min'`); n != 1 {
		t.Errorf("%d messages are due in an hour, want the waiting one", n)
	}
	r.exec(`UPDATE outbox.due SET due_at = now()`)
	if n := len(r.claim("two")); n != 2 || r.count(`SELECT count(*) FROM outbox.due WHERE waits_for IS NOT NULL`) != 0 {
		t.Errorf("%d messages are claimed again, want both, and that none waits for anything then", n)
	}
}
