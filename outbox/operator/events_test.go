package operator_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// wantEvents is what a worker with a URL for events does each minute.
func wantEvents(t *testing.T, db *testdb.DB) {
	t.Helper()
	fixture.Execute(t, db, `INSERT INTO %s.event_wanted (seen) VALUES (now()) ON CONFLICT (one) DO UPDATE SET seen = now()`, db.Schema)
}

// notes takes what was noted, as text.
func notes(t *testing.T, db *testdb.DB) string {
	t.Helper()
	return fixture.One[string](t, db.Pool, `WITH v AS (DELETE FROM `+db.Schema+`.event RETURNING *)
SELECT coalesce(string_agg(kind || ' ' || lane || ' ' || n || ' ' || reason, '; ' ORDER BY kind, lane), '') FROM v`)
}

func TestWhatAnOperatorDoesIsNotedWhereSomebodyWantsEvents(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	acme, err := s.OfTenant("acme")
	must(t, err)
	do := func(wanted bool) {
		t.Helper()
		for _, step := range []struct {
			do   func() error
			note string
		}{
			{func() error { return s.Pause(t.Context(), receiver, "maintenance") }, "endpoint.paused " + receiver + " 1 maintenance"},
			{func() error { return acme.Pause(t.Context(), receiver, "") }, "endpoint.paused " + receiver + " acme 1 paused by an operator"},
			{func() error { _, err := acme.Resume(t.Context(), receiver); return err }, "endpoint.resumed " + receiver + " acme 1 resumed by an operator"},
			{func() error { _, err := s.Resume(t.Context(), receiver); return err }, "endpoint.resumed " + receiver + " 1 resumed by an operator"},
			{func() error { _, err := s.Resume(t.Context(), receiver); return err }, ""}, // nothing is paused any more
			{func() error {
				return s.Cancel(t.Context(), []outbox.ID{fixture.Write(t, db, fixture.Message("a")), fixture.Write(t, db, fixture.Message("b"))}, "")
			}, "message.dead " + receiver + " 2 cancelled"},
			{func() error {
				fixture.Write(t, db, fixture.Message("c"))
				_, err := s.CancelDue(t.Context(), receiver, "")
				return err
			}, "message.dead " + receiver + " 1 cancelled"},
			{func() error { _, err := s.CancelDue(t.Context(), receiver, ""); return err }, ""},
		} {
			must(t, step.do())
			if !wanted {
				step.note = ""
			}
			if got := notes(t, db); got != step.note {
				t.Errorf("noted: %q; want %q", got, step.note)
			}
		}
	}
	do(false)
	wantEvents(t, db)
	do(true)
	fixture.Execute(t, db, `UPDATE %s.event_wanted SET seen = now() - interval '8 days'`, db.Schema)
	do(false)
}

func TestAURLThatIsPausedIsNoted(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	wantEvents(t, db)
	s := fixture.Store(t, db)
	fixture.Execute(t, db, `INSERT INTO %s.endpoint (endpoint, failures, reason) SELECT '%s  #' || encode(substr(sha256('%s/hook'), 1, 8), 'hex'), 10, ''`, db.Schema, receiver, receiver)
	must(t, s.PauseURL(t.Context(), receiver+"/hook", "why"))
	if got := notes(t, db); !strings.HasPrefix(got, "endpoint.paused "+receiver+"  #") || !strings.HasSuffix(got, " 1 why") {
		t.Errorf("noted: %q", got)
	}
	if err := s.PauseURL(t.Context(), receiver+"/other", "why"); err == nil || notes(t, db) != "" {
		t.Errorf("%v", err)
	}
}

func TestAnOperatorsEventCommitsOrRollsBackWithWhatHeDid(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	wantEvents(t, db)
	id := fixture.Write(t, db, fixture.Message("a"))
	fixture.Execute(t, db, `CREATE FUNCTION %[1]s.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE CONSTRAINT TRIGGER no AFTER INSERT ON %[1]s.event DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION %[1]s.no()`, db.Schema)
	s := fixture.Store(t, db)
	if err := s.Pause(t.Context(), receiver, ""); err == nil || fixture.Count(t, db, "endpoint") != 0 {
		t.Errorf("paused: %v", err)
	}
	if err := s.Cancel(t.Context(), []outbox.ID{id}, ""); err == nil || fixture.Show(t, db, id).State != outbox.StatePending {
		t.Errorf("cancelled: %v", err)
	}
	fixture.Execute(t, db, `DROP TRIGGER no ON %s.event`, db.Schema)
	tx := fixture.Begin(t, db.Pool)
	in, err := operator.NewStore(tx, db.Schema)
	must(t, err)
	must(t, in.Pause(t.Context(), receiver, ""))
	must(t, in.Cancel(t.Context(), []outbox.ID{id}, ""))
	must(t, tx.Rollback(t.Context()))
	if got := notes(t, db); got != "" {
		t.Errorf("noted: %s", got)
	}
}

// TestARoleThatMayNotNoteEventsGoesOnWithoutThem: it had its privileges before there were events.
func TestARoleThatMayNotNoteEventsGoesOnWithoutThem(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	wantEvents(t, db)
	role := "role_" + db.Name
	fixture.Execute(t, db, `CREATE ROLE %[2]s; GRANT USAGE ON SCHEMA %[1]s TO %[2]s; GRANT SELECT, INSERT, UPDATE ON %[1]s.endpoint TO %[2]s`, db.Schema, role)
	t.Cleanup(func() { _, _ = db.Pool.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+role); err != nil {
			return err
		}
		s, err := operator.NewStore(tx, db.Schema)
		if err != nil {
			return err
		}
		return s.Pause(t.Context(), receiver, "")
	}))
	if got := notes(t, db); got != "" || fixture.Count(t, db, "endpoint") != 1 {
		t.Errorf("noted: %q", got)
	}
}

func TestAnEventIsShownAsOneAndReplayedToNoOtherURL(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	id := fixture.Write(t, db, fixture.Message("a"))
	fixture.Execute(t, db, `UPDATE %s.message SET kind = 'event', endpoint = '%s', url = '%s'`, db.Schema, event.Lane, event.URL)
	fixture.Execute(t, db, `UPDATE %s.due SET endpoint = '%s'`, db.Schema, event.Lane)
	if d := fixture.Show(t, db, id); d.Kind == nil || *d.Kind != operator.KindEvent {
		t.Errorf("%+v", d)
	}
	wantEvents(t, db)
	s := fixture.Store(t, db)
	must(t, s.Cancel(t.Context(), []outbox.ID{id}, ""))
	if got := notes(t, db); got != "" {
		t.Errorf("an event's own end is noted: %s", got)
	}
	if _, err := s.Replay(t.Context(), []outbox.ID{id}, other); err == nil || !strings.Contains(err.Error(), "is an event") {
		t.Errorf("%v", err)
	}
	if _, err := s.Replay(t.Context(), []outbox.ID{id}, ""); err != nil || fixture.One[string](t, db.Pool, "SELECT endpoint FROM "+db.Schema+".due") != event.Lane {
		t.Errorf("%v", err)
	}
}

func TestAPurgeOfATenantErasesWhatEventsSayOfIt(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	mine := fixture.Write(t, db, of("acme"))
	fixture.Execute(t, db, `UPDATE %s.message SET kind = 'event' WHERE id = '%s'`, db.Schema, mine)
	fixture.Execute(t, db, `INSERT INTO %[1]s.event (kind, lane) VALUES ('message.dead', 'https://a.test acme'), ('message.dead', 'https://a.test other')`, db.Schema)
	fixture.Execute(t, db, `INSERT INTO %[1]s.event_told (endpoint, kind, told_at, n, detail) VALUES ('https://a.test', 'message.dead', now(), 1, '{"n": 1, "tenant": "acme"}'),
    ('https://b.test', 'message.dead', now(), 1, '{"n": 1, "tenant": "other"}')`, db.Schema)
	purged(t, ofTenant(t, db, "acme"), "", 0)
	if n := fixture.Count(t, db, "message"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	left := fixture.One[string](t, db.Pool, `SELECT (SELECT string_agg(lane, '; ' ORDER BY lane) FROM `+db.Schema+`.event) || ' | ' || (SELECT string_agg(detail::text, '; ' ORDER BY endpoint) FROM `+db.Schema+`.event_told)`)
	if left != `https://a.test; https://a.test other | {"n": 1}; {"n": 1, "tenant": "other"}` {
		t.Error(left)
	}
}
