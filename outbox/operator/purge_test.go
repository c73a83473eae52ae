package operator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// purged surveys and erases.
func purged(t *testing.T, s *operator.Store, runID string, wait time.Duration) (found, erased operator.PurgeCounts) {
	t.Helper()
	p, err := s.Purge(runID, nil)
	must(t, err)
	found, err = p.Survey(t.Context())
	must(t, err)
	erased, err = p.Erase(t.Context(), wait)
	must(t, err)
	return found, erased
}

// run writes the row of a run of riverstep.
func run(t *testing.T, db *testdb.DB, runID, status string) {
	t.Helper()
	fixture.Execute(t, db, `INSERT INTO %s.riverstep_run (instance, run_id, status, attempts, input_sha256, payload, error, job_end, ended_at)
SELECT gen_random_uuid(), '%s', s, 1, '', 'input', CASE s WHEN 'failed' THEN 'e' END, CASE s WHEN 'active' THEN NULL ELSE 'completed' END,
       CASE s WHEN 'active' THEN NULL ELSE now() END FROM (VALUES ('%s')) v (s)`, db.Schema, runID, status)
}

// everything is a row of each table, as text.
func everything(t *testing.T, db *testdb.DB) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"message", "attempt", "due", "dead", "endpoint", "riverstep_run"} {
		rows, err := db.Pool.Query(t.Context(), fmt.Sprintf(`SELECT '%s ' || r::text FROM %s.%s r ORDER BY 1`, table, db.Schema, table))
		must(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		all.WriteString(strings.Join(list, "\n") + "\n")
	}
	return all.String()
}

func TestAPurgeErasesAllOfATenantAndNothingElse(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for _, state := range outbox.States {
		m := fixture.Message("run-" + string(state))
		m.DedupeKey = "key " + string(state)
		inState(t, db, state, m)
	}
	inState(t, db, outbox.StateDead, of("acme2"))
	run(t, db, "run-dead", "failed")
	run(t, db, "shared", "succeeded")
	fixture.Write(t, db, fixture.Message("shared"))
	remembered(t, db, receiver, ", failures", ", 1")
	must(t, ofTenant(t, db, "acme2").Pause(t.Context(), receiver, ""))
	before := everything(t, db)

	acme := ofTenant(t, db, "acme")
	for i, state := range outbox.States {
		if state == outbox.StateDelivering {
			continue
		}
		m := of("acme")
		m.Outcome.RunID, m.DedupeKey = fmt.Sprintf("acme-%d", i), fmt.Sprintf("acme-%d", i)
		id := inState(t, db, state, m)
		run(t, db, m.Outcome.RunID, "succeeded")
		if state == outbox.StateDelivered {
			done, err := acme.Replay(t.Context(), []outbox.ID{id}, other)
			must(t, err)
			must(t, acme.Cancel(t.Context(), []outbox.ID{done[0].New}, ""))
			done, err = acme.Replay(t.Context(), []outbox.ID{done[0].New}, other) // a copy of the copy
			must(t, err)
			fixture.Execute(t, db, `UPDATE %[1]s.message SET tenant = NULL WHERE id = '%[2]s' OR replay_of = '%[2]s'`, db.Schema, id) // as version 5 made them
			fixture.Execute(t, db, `UPDATE %s.message SET tenant = 'acme' WHERE id = '%s'`, db.Schema, id)
			fixture.Execute(t, db, `UPDATE %s.message SET tenant = NULL WHERE id = '%s'`, db.Schema, done[0].New)
		}
	}
	m := of("acme")
	m.Outcome.RunID = "shared"
	fixture.Write(t, db, m)
	remembered(t, db, lane.Of(receiver, "acme"), ", failures", ", 1")
	remembered(t, db, lane.OfURL(lane.Of(receiver, "acme"), "u"), ", failures", ", 1")

	p, err := acme.Purge("", nil)
	must(t, err)
	if _, err := p.Survey(t.Context()); err != nil || everything(t, db) == before {
		t.Fatalf("the survey erased it, or: %v", err)
	}
	found, erased := purged(t, acme, "", time.Minute)
	want := operator.PurgeCounts{Messages: 8, Copies: 2, DedupeKeys: 5, Attempts: 3, Due: 4, Dead: 3, Runs: 5, Lanes: 2}
	if erased != want {
		t.Errorf("erased %+v\nwant   %+v", erased, want)
	}
	if found.Runs--; found != want { // the survey counts the run that is shared
		t.Errorf("found  %+v\nwant   %+v", found, want)
	}
	if after := everything(t, db); after != before {
		t.Errorf("what is left is\n%s\nwant\n%s", after, before)
	}
}

func TestAPurgeOfARunErasesItWithItsCopies(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	fixture.Write(t, db, fixture.Message("other"))
	run(t, db, "other", "succeeded")
	before := everything(t, db)
	m := fixture.Message("run")
	m.DedupeKey = "key"
	id := inState(t, db, outbox.StateDead, m)
	_, err := fixture.Store(t, db).Replay(t.Context(), []outbox.ID{id}, other)
	must(t, err)
	run(t, db, "run", "succeeded")
	run(t, db, "run", "failed")
	_, erased := purged(t, fixture.Store(t, db), "run", 0)
	if want := (operator.PurgeCounts{Messages: 2, Copies: 1, DedupeKeys: 1, Attempts: 1, Due: 1, Dead: 1, Runs: 2}); erased != want {
		t.Errorf("erased %+v\nwant   %+v", erased, want)
	}
	if after := everything(t, db); after != before {
		t.Errorf("what is left is\n%s", after)
	}
	run(t, db, "run", "succeeded")
	run(t, db, "run", "active")
	if _, erased := purged(t, fixture.Store(t, db), "run", 0); erased != (operator.PurgeCounts{Runs: 1, ActiveRuns: 1}) {
		t.Errorf("of a run without messages: %+v", erased)
	}
	if n := fixture.Count(t, db, "riverstep_run"); n != 2 {
		t.Errorf("%d runs are left: the active one, and the other's", n)
	}
}

func TestAPurgeKeepsATenantsPausesAndLimits(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	acme := ofTenant(t, db, "acme")
	fixture.Write(t, db, of("acme"))
	must(t, acme.Pause(t.Context(), receiver, ""))
	must(t, acme.Limit(t.Context(), "https://other.example", operator.Limits{MaxInFlight: 1}, ""))
	if _, erased := purged(t, acme, "", 0); erased.PausedLanes != 2 || erased.Messages != 1 || fixture.Count(t, db, "endpoint") != 2 {
		t.Errorf("erased %+v, %d rows of endpoint are left", erased, fixture.Count(t, db, "endpoint"))
	}
}

func TestAPurgeWaitsForWhatIsBeingDelivered(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	acme := ofTenant(t, db, "acme")
	leased, locked := inState(t, db, outbox.StateDelivering, of("acme")), fixture.Write(t, db, of("acme"))
	fixture.Write(t, db, of("acme"))
	tx := fixture.Begin(t, db.Pool) // as a claim or a record has the row
	_, err := tx.Exec(t.Context(), "SELECT FROM "+db.Schema+".due WHERE message_id = $1 FOR UPDATE", locked)
	must(t, err)
	if _, erased := purged(t, acme, "", 0); erased.Left != 2 || erased.Messages != 1 || fixture.Count(t, db, "due") != 2 || fixture.Count(t, db, "message") != 2 {
		t.Fatalf("erased %+v", erased)
	}
	done := make(chan operator.PurgeCounts)
	go func() {
		_, erased := purged(t, acme, "", 10*time.Minute)
		done <- erased
	}()
	must(t, tx.Rollback(t.Context()))
	fixture.Execute(t, db, "DELETE FROM %s.due WHERE message_id = '%s'", db.Schema, leased) // its worker records that it is delivered
	if erased := <-done; erased.Left != 0 || erased.Messages != 2 || fixture.Count(t, db, "message") != 0 {
		t.Errorf("erased %+v", erased)
	}
}

func TestAMessageThatTheDatabaseKeepsIsToldAndTheOthersAreErased(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	fixture.Execute(t, db, `CREATE TABLE %[1]s.invoice (run uuid REFERENCES %[1]s.message (id))`, db.Schema) // of the service's
	for i := range 20 {
		if id := fixture.Write(t, db, of("acme")); i == 7 {
			fixture.Execute(t, db, `INSERT INTO %s.invoice VALUES ('%s')`, db.Schema, id)
		}
	}
	_, erased := purged(t, ofTenant(t, db, "acme"), "", 0)
	if erased.Messages != 19 || erased.Left != 1 || !strings.Contains(erased.Refusal, "invoice") || fixture.Count(t, db, "due") != 1 {
		t.Errorf("erased %+v", erased)
	}
}

func TestALargePurgeGoesInBatchesAndTellsItsProgress(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	const of10 = 12_000
	fixture.Execute(t, db, `INSERT INTO %s.message (id, run_id, status, result, final_step, url, endpoint, tenant)
SELECT gen_random_uuid(), 'run-' || i, 'succeeded', '', 0, 'https://receiver.example/', 'https://receiver.example', CASE WHEN i %% 10 = 0 THEN 'acme' END
FROM generate_series(1, %d) i`, db.Schema, of10)
	steps, walked := 0, int64(0)
	p, err := ofTenant(t, db, "acme").Purge("", func(at operator.PurgeProgress) { steps, walked = steps+1, at.Walked })
	must(t, err)
	found, err := p.Survey(t.Context())
	must(t, err)
	if found.Messages != of10/10 || steps != 3 || walked != of10 {
		t.Errorf("%d found in %d steps over %d", found.Messages, steps, walked)
	}
	fixture.Write(t, db, of("acme")) // after the survey
	erased, err := p.Erase(t.Context(), 0)
	must(t, err)
	if erased.Messages != of10/10 && erased.Messages != of10/10+1 || fixture.Count(t, db, "message") > of10-of10/10+1 || fixture.Count(t, db, "message") < of10-of10/10 {
		t.Errorf("erased %+v; %d are left", erased, fixture.Count(t, db, "message"))
	}
}

func TestAPurgeNamesATenantOrARun(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	if _, err := fixture.Store(t, db).Purge("", nil); err == nil {
		t.Error("everything would be erased")
	}
}
