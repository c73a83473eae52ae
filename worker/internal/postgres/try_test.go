package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// try records without waiting for locks, and returns the runs of the results that are held.
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

// batchOf writes a message for each kind of result, to an endpoint named after the run. It claims them, and returns results of
// these kinds.
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
		r.t.Fatalf("%d messages claimed, want %d", len(batch), len(kinds))
	}
	return runs, batch
}

// everyKind has a result of each kind, each at an endpoint of its own.
var everyKind = map[string]string{
	"delivered": "delivered", "retried": "retried", "failed": "failed", "refused": "refused", "blocked": "blocked",
	"gone": "gone", "released": "released", "waiting": "waiting",
}

// TestWithoutLocksTryRecordLeavesTheSameRowsAsRecord.
func TestWithoutLocksTryRecordLeavesTheSameRowsAsRecord(t *testing.T) {
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
			t.Errorf("TryRecord held %v, recorded %d, and is busy: %v; want none held and 6 recorded", held, tried.Recorded, tried.Busy)
		}
		tables[way] = one[string](r, `SELECT string_agg(x, E'\n' ORDER BY x) FROM (
    SELECT m.run_id || ' due ' || (to_jsonb(d) - 'message_id' - 'due_at')::text AS x FROM outbox.due d JOIN outbox.message m ON m.id = d.message_id
    UNION ALL SELECT m.run_id || ' attempt ' || (to_jsonb(a) - 'message_id' - 'started_at')::text FROM outbox.attempt a JOIN outbox.message m ON m.id = a.message_id
    UNION ALL SELECT m.run_id || ' dead ' || (to_jsonb(x) - 'message_id' - 'at')::text FROM outbox.dead x JOIN outbox.message m ON m.id = x.message_id
    UNION ALL SELECT 'endpoint ' || (to_jsonb(e) - 'since' - 'open_until' - 'granted_at')::text || (e.open_until IS NULL)::text FROM outbox.endpoint e) y`)
	}
	if tables["record"] != tables["try"] {
		t.Errorf("Record and TryRecord leave different rows\nRecord:\n%s\nTryRecord:\n%s", tables["record"], tables["try"])
	}
}

// TestALockOnADueRowHoldsItsResultOnly, and that is recorded after the lock's end.
func TestALockOnADueRowHoldsItsResultOnly(t *testing.T) {
	t.Parallel()
	for locked := range everyKind {
		t.Run(locked, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			runs, batch := r.batchOf(everyKind)
			release := faulty.Hold(t, r.Pool, sqlschema.In(`SELECT FROM outbox.due JOIN outbox.message ON id = message_id WHERE run_id = $1 FOR UPDATE OF due`, r.Schema), locked)
			if _, err := r.recorder("one").Record(t.Context(), batch); !IsLocked(err) {
				t.Fatalf("Record returns %v, want that a lock was not free in time", err)
			}
			held, tried := r.try("one", runs, batch)
			if len(held) != 1 || !held[locked] {
				t.Fatalf("TryRecord held %v, want the locked one", held)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one'`); n != 1 {
				t.Errorf("%d messages are still leased, want 1", n)
			}
			release()
			if held, tried = r.try("one", runs, batch); len(held) > 0 || tried.Recorded > 1 {
				t.Errorf("after the lock's end TryRecord held %v and recorded %d, want none held", held, tried.Recorded)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one'`); n != 0 {
				t.Errorf("%d messages are still leased, want none", n)
			}
		})
	}
}

// TestALockOnAnEndpointsRowHoldsOnlyItsSpecialResults: a 410, a Retry-After, and the answer to a probe. Their leases are
// prolonged. The other results are recorded, without their count of failures.
func TestALockOnAnEndpointsRowHoldsOnlyItsSpecialResults(t *testing.T) {
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
			t.Errorf("%s is not held, want it held", want)
		}
	}
	if len(held) != 4 || !tried.Busy {
		t.Errorf("TryRecord held %v and is busy: %v; want 4 held, and busy", held, tried.Busy)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one' AND locked_until > now() + interval '5 s'`); n != 4 {
		t.Errorf("the leases of %d messages are prolonged, want 4", n)
	}
	release()
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE failures = 3`); n != len(kinds)-1 {
		t.Errorf("%d endpoints have their old row, want all but one", n)
	}
	if held, _ := r.try("one", runs, batch); len(held) > 0 {
		t.Errorf("after the lock's end TryRecord held %v, want none", held)
	}
	for endpoint, want := range map[string]string{"gone": "failing", "retried": "held", "probe-delivered": "closed", "probe-failed": "failing"} {
		if got := one[string](r, `SELECT CASE WHEN paused THEN 'paused' WHEN failures > 0 THEN 'failing' WHEN open_until > now() THEN 'held' ELSE 'closed' END
FROM outbox.endpoint WHERE endpoint = 'https://' || $1 || '.test'`, endpoint); got != want {
			t.Errorf("%s is %s, want %s", endpoint, got, want)
		}
	}
}

// TestAnErrorSaysWhetherARowOrATableWasLocked.
func TestAnErrorSaysWhetherARowOrATableWasLocked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, batch := r.batchOf(map[string]string{"a": "failed"})
	to := r.recorderOn(r.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 }), "one")
	if _, err := to.TryRecord(t.Context(), nil, false); err != nil { // prepares the statement: preparing would wait for the lock as well
		t.Fatal(err)
	}
	release := faulty.Hold(t, r.Pool, sqlschema.In(`LOCK TABLE outbox.due`, r.Schema))
	if _, err := to.TryRecord(t.Context(), batch, false); !IsLocked(err) || IsRowLocked(err) {
		t.Errorf("with a locked table, TryRecord returns %v, want a lock that is not a row's", err)
	}
	release()
	release = faulty.Hold(t, r.Pool, sqlschema.In(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://a.test', '')`, r.Schema))
	if _, err := to.TryRecord(t.Context(), batch, false); !IsRowLocked(err) {
		t.Errorf("with a row that is being inserted, TryRecord returns %v, want a row's lock", err)
	}
	release()
	if tried, err := to.TryRecord(t.Context(), batch, false); err != nil || tried.Recorded != 1 {
		t.Errorf("after the lock's end, TryRecord returns %+v, %v; want one recorded", tried, err)
	}
}

// TestTryRecordIsFenced: messages that another worker has a lease for are neither recorded nor held.
func TestTryRecordIsFenced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	runs, batch := r.batchOf(everyKind)
	r.expireLeases()
	if n := len(r.claim("two")); n != len(everyKind) {
		t.Fatalf("%d messages are claimed again, want all", n)
	}
	before := r.rows()
	faulty.Hold(t, r.Pool, sqlschema.In(`SELECT FROM outbox.due FOR UPDATE`, r.Schema))
	if held, tried := r.try("one", runs, batch); len(held) > 0 || tried.Recorded > 0 {
		t.Errorf("TryRecord held %v and recorded %d, want none of both", held, tried.Recorded)
	}
	if r.rows() != before {
		t.Error("TryRecord changed rows, want none changed")
	}
}
