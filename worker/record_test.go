package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestARowThatTheDatabaseRefusesTakesNoOtherAlong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, runID := range []string{"good-1", "bad reason", "good-2", "bad text", "bad status", "good-3"} {
		r.writeTo("https://a.test/hook", runID)
	}
	var batch []result
	ids := map[string]outbox.ID{}
	for _, m := range r.claim("one") {
		x := results(m)["delivered"]
		switch m.runID {
		case "bad reason":
			x = results(m)["refused"]
			x.reason = "because"
		case "bad text":
			x.response = "\xff"
		case "bad status":
			x.statusCode = 42
		}
		batch, ids[m.runID] = append(batch, x), m.id
	}
	err := r.recorder("one").write(t.Context(), batch)
	if err == nil {
		t.Fatal("nothing is said of the rows that were refused")
	}
	for runID, id := range ids {
		bad := strings.HasPrefix(runID, "bad")
		if named := strings.Contains(err.Error(), id.String()); named != bad {
			t.Errorf("%s is named in the error: %v", runID, named)
		}
		want := outbox.StateDelivered
		if bad {
			want = outbox.StateDelivering // until its lease ends, and then anew
		}
		if d := r.state(id); d.State != want {
			t.Errorf("%s is %s, want %s", runID, d.State, want)
		}
	}
}

// TestABatchOfEverythingIsOneTransaction: what belongs together is never seen apart.
func TestABatchOfEverythingIsOneTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var urls []string
	for i := range batchMax {
		urls = append(urls, fmt.Sprintf("https://host-%d.test/hook", i%7))
	}
	r.writeAll(urls...)
	var batch []result
	for i, m := range r.claim("one") {
		batch = append(batch, results(m)[[]string{"delivered", "retried", "refused", "gone", "released"}[i%5]])
	}
	r.record("one", batch...)
	for what, sql := range map[string]string{
		"attempts":         `SELECT count(*) FROM outbox.attempt`,  // all but the released
		"dead":             `SELECT 2 * count(*) FROM outbox.dead`, // refused and gone
		"due":              `SELECT 2 * count(*) FROM outbox.due`,  // retried and released
		"still leased":     `SELECT count(*) FROM outbox.due WHERE locked_by IS NOT NULL`,
		"released":         `SELECT count(*) FROM outbox.due WHERE attempt = 0`,
		"paused endpoints": `SELECT count(*) FROM outbox.endpoint WHERE paused AND open_until > now()`,
	} {
		fifth := batchMax / 5
		least := map[string]int{"attempts": 4 * fifth, "dead": 4 * fifth, "due": 4 * fifth, "still leased": 0, "released": fifth, "paused endpoints": 7}[what]
		if n := r.count(sql); n < least || n > least+5 {
			t.Errorf("%s: %d, want %d", what, n, least)
		}
	}
}

func TestTheAttemptKeepsWhatWasMeasured(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	x := results(r.claimOne("one"))["refused"]
	x.startedAt, x.duration = time.Now().Add(-time.Hour), 1234*time.Millisecond
	x.response, x.note = "no such thing", "left out: nothing"
	r.record("one", x)
	a := r.state(id).AttemptList[0]
	if *a.DurationMS != 1234 || *a.StatusCode != 404 || *a.Error != "answered 404" || *a.Response != x.response || *a.Note != x.note {
		t.Errorf("the attempt is kept as %+v", a)
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE started_at BETWEEN now() - interval '61 min' AND now() - interval '60 min'`); n != 1 {
		t.Errorf("it began at %v, an hour before %v", a.StartedAt, time.Now())
	}
}

// TestADeliveryLeavesTheSameRowsWhicheverStatementRecordsIt: alone at its endpoint, or beside a result of another kind.
func TestADeliveryLeavesTheSameRowsWhicheverStatementRecordsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, url := range []string{"https://alone.test/hook", "https://mixed.test/hook", "https://mixed.test/hook"} {
		r.writeTo(url, "run")
	}
	var batch []result
	kinds := map[string][]string{"https://alone.test": {"delivered"}, "https://mixed.test": {"delivered", "released"}}
	for _, m := range r.claim("one") {
		x := results(m)[kinds[m.endpoint][0]]
		kinds[m.endpoint] = kinds[m.endpoint][1:]
		x.startedAt, x.duration, x.response, x.note = time.Now().Add(-time.Hour), 1234*time.Millisecond, "thanks", "left out: nothing"
		batch = append(batch, x)
	}
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, openings, reason, since)
SELECT 'https://' || name || '.test', 3, 0, 'failing: reset', now() - interval '1 h' FROM unnest(ARRAY['alone', 'mixed']) AS name`)
	if alone, mixed := split(batch); len(alone) != 1 || len(mixed) != 2 {
		t.Fatalf("%d results go by one statement and %d by the other, want 1 and 2", len(alone), len(mixed))
	}
	r.record("one", batch...)
	for what, sql := range map[string]string{
		"kinds of attempts": `SELECT count(DISTINCT to_jsonb(a) - 'message_id' - 'started_at') FROM outbox.attempt a`,
		"kinds of health":   `SELECT count(DISTINCT to_jsonb(e) - 'endpoint') FROM outbox.endpoint e`,
		"due":               `SELECT count(*) FROM outbox.due`, // what was released
	} {
		if n := r.count(sql); n != 1 {
			t.Errorf("%s: %d, want 1", what, n)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != 2 {
		t.Errorf("%d attempts are kept, want 2", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE failures = 0 AND reason = 'answers' AND since > now() - interval '1 min'`); n != 2 {
		t.Errorf("%d endpoints are well again, want both", n)
	}
}
