package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// try records without waiting, and names the runs of the results that are held.
func (r *rig) try(worker string, runs map[outbox.ID]string, batch []Result) (held map[string]bool, tried Tried) {
	r.t.Helper()
	tried, err := r.recorder(worker).TryRecord(r.t.Context(), batch, false)
	if err != nil {
		r.t.Fatal(err)
	}
	held = map[string]bool{}
	for _, i := range tried.Held {
		held[runs[batch[i].ID]] = true
	}
	return held, tried
}

// batchOf writes a message for each kind of result, to an endpoint named by the run, claims them and returns their results.
func (r *rig) batchOf(kinds map[string]string) (runs map[outbox.ID]string, batch []Result) {
	r.t.Helper()
	runs = map[outbox.ID]string{}
	for run := range kinds {
		r.writeTo("https://"+run+".test/hook", run)
	}
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)[kinds[m.RunID]])
		runs[m.ID] = m.RunID
	}
	if len(batch) != len(kinds) {
		r.t.Fatalf("%d claimed, want %d", len(batch), len(kinds))
	}
	return runs, batch
}

// everyKind of result, each at an endpoint of its own.
var everyKind = map[string]string{
	"delivered": "delivered", "retried": "retried", "failed": "failed", "refused": "refused", "blocked": "blocked",
	"gone": "gone", "released": "released", "waiting": "waiting",
}

// TestARecordThatWaitsForNoLockLeavesTheSameRows as one that may wait, when nothing is locked.
func TestARecordThatWaitsForNoLockLeavesTheSameRows(t *testing.T) {
	t.Parallel()
	tables := map[string]string{}
	for _, way := range []string{"record", "try"} {
		r := newRig(t)
		_, batch := r.batchOf(everyKind)
		r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, openings, reason) SELECT 'https://' || n || '.test', 3, 1, 'failing: reset'
FROM unnest(ARRAY['delivered', 'failed', 'refused', 'blocked']) AS n`)
		if way == "record" {
			r.record("one", batch...)
		} else if held, tried := r.try("one", nil, batch); len(held) > 0 || tried.Recorded != 6 || tried.Busy {
			t.Errorf("held %v, recorded %d, busy: %v", held, tried.Recorded, tried.Busy)
		}
		tables[way] = one[string](r, `SELECT string_agg(x, E'\n' ORDER BY x) FROM (
    SELECT m.run_id || ' due ' || (to_jsonb(d) - 'message_id' - 'due_at')::text AS x FROM outbox.due d JOIN outbox.message m ON m.id = d.message_id
    UNION ALL SELECT m.run_id || ' attempt ' || (to_jsonb(a) - 'message_id' - 'started_at')::text FROM outbox.attempt a JOIN outbox.message m ON m.id = a.message_id
    UNION ALL SELECT m.run_id || ' dead ' || (to_jsonb(x) - 'message_id' - 'at')::text FROM outbox.dead x JOIN outbox.message m ON m.id = x.message_id
    UNION ALL SELECT 'endpoint ' || (to_jsonb(e) - 'since' - 'open_until' - 'granted_at')::text || (e.open_until IS NULL)::text FROM outbox.endpoint e) y`)
	}
	if tables["record"] != tables["try"] {
		t.Errorf("recorded:\n%s\ntried:\n%s", tables["record"], tables["try"])
	}
}

// TestALockedDueRowHoldsItsResultOnly: it is recorded when the lock is gone.
func TestALockedDueRowHoldsItsResultOnly(t *testing.T) {
	t.Parallel()
	for locked := range everyKind {
		t.Run(locked, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			runs, batch := r.batchOf(everyKind)
			release := faulty.Hold(t, r.Pool, sqlschema.In(`SELECT FROM outbox.due JOIN outbox.message ON id = message_id WHERE run_id = $1 FOR UPDATE OF due`, r.Schema), locked)
			if _, err := r.recorder("one").Record(t.Context(), batch); !IsLocked(err) {
				t.Fatalf("a record that waits returns %v", err)
			}
			held, tried := r.try("one", runs, batch)
			if len(held) != 1 || !held[locked] {
				t.Fatalf("held %v", held)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one'`); n != 1 {
				t.Errorf("%d are still leased", n)
			}
			release()
			if held, tried = r.try("one", runs, batch); len(held) > 0 || tried.Recorded > 1 {
				t.Errorf("then it held %v and recorded %d", held, tried.Recorded)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one'`); n != 0 {
				t.Errorf("%d are still leased", n)
			}
		})
	}
}

// TestALockedEndpointRowHoldsOnlyWhatNoOtherAnswerSays: a pause, a time to be left alone, and the answer to a probe. Their
// leases are prolonged. Of the others only what they say about health is left out.
func TestALockedEndpointRowHoldsOnlyWhatNoOtherAnswerSays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	kinds := map[string]string{"probe-delivered": "delivered", "probe-failed": "failed", "probe-blocked": "blocked", "new": "failed"}
	for run, kind := range everyKind {
		kinds[run] = kind
	}
	runs, batch := r.batchOf(kinds)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, probing, reason)
SELECT endpoint, 3, run_id LIKE 'probe%', 'failing: reset' FROM outbox.message WHERE run_id <> 'new'`)
	r.exec(`UPDATE outbox.due SET locked_until = now()`)
	release := faulty.Hold(t, r.Pool, sqlschema.In(`SELECT FROM outbox.endpoint FOR UPDATE`, r.Schema))
	held, tried := r.try("one", runs, batch)
	for _, want := range []string{"gone", "retried", "probe-delivered", "probe-failed"} {
		if !held[want] {
			t.Errorf("%s is not held", want)
		}
	}
	if len(held) != 4 || !tried.Busy {
		t.Errorf("held %v, busy: %v", held, tried.Busy)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one' AND locked_until > now() + interval '5 s'`); n != 4 {
		t.Errorf("the leases of %d are prolonged, want 4", n)
	}
	release()
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE failures = 3`); n != len(kinds)-1 {
		t.Errorf("the health of %d endpoints is as it was", n)
	}
	if held, _ := r.try("one", runs, batch); len(held) > 0 {
		t.Errorf("without the lock it holds %v", held)
	}
	for endpoint, want := range map[string]string{"gone": "failing", "retried": "held", "probe-delivered": "closed", "probe-failed": "failing"} {
		if got := one[string](r, `SELECT CASE WHEN paused THEN 'paused' WHEN failures > 0 THEN 'failing' WHEN open_until > now() THEN 'held' ELSE 'closed' END
FROM outbox.endpoint WHERE endpoint = 'https://' || $1 || '.test'`, endpoint); got != want {
			t.Errorf("%s is %s, want %s", endpoint, got, want)
		}
	}
}

// TestWhatALockMeans: of a row or of a table.
func TestWhatALockMeans(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, batch := r.batchOf(map[string]string{"a": "failed"})
	to := r.recorderOn(r.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 }), "one")
	if _, err := to.TryRecord(t.Context(), nil, false); err != nil { // a statement that is prepared waits, too
		t.Fatal(err)
	}
	release := faulty.Hold(t, r.Pool, sqlschema.In(`LOCK TABLE outbox.due`, r.Schema))
	if _, err := to.TryRecord(t.Context(), batch, false); !IsLocked(err) || IsRowLocked(err) {
		t.Errorf("beside a locked table: %v", err)
	}
	release()
	release = faulty.Hold(t, r.Pool, sqlschema.In(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://a.test', '')`, r.Schema))
	if _, err := to.TryRecord(t.Context(), batch, false); !IsRowLocked(err) {
		t.Errorf("beside a row that is being inserted: %v", err)
	}
	release()
	if tried, err := to.TryRecord(t.Context(), batch, false); err != nil || tried.Recorded != 1 {
		t.Errorf("then: %+v, %v", tried, err)
	}
}

// TestATriedBatchIsFenced: what another worker has under its lease is neither recorded nor held.
func TestATriedBatchIsFenced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	runs, batch := r.batchOf(everyKind)
	r.expireLeases()
	if n := len(r.claim("two")); n != len(everyKind) {
		t.Fatalf("%d claimed again", n)
	}
	before := r.rows()
	faulty.Hold(t, r.Pool, sqlschema.In(`SELECT FROM outbox.due FOR UPDATE`, r.Schema))
	if held, tried := r.try("one", runs, batch); len(held) > 0 || tried.Recorded > 0 {
		t.Errorf("held %v, recorded %d", held, tried.Recorded)
	}
	if r.rows() != before {
		t.Error("it changed rows")
	}
}
