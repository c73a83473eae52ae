package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// teller returns a Teller. tellingRecorder and tellingClaimer return a Recorder and a Claimer that write notes of events.
func (r *rig) teller(every time.Duration) *Teller {
	return NewTeller(Direct(r.Pool), TellerConfig{Schema: r.Schema, Every: every})
}

// calls are the arguments of a recorder's callbacks.
type calls struct {
	died   []outbox.ID
	untold []error
}

func (r *rig) tellingRecorder(t Telling) (*Recorder, *calls) {
	told := &calls{}
	return NewRecorder(Direct(r.Pool), RecorderConfig{
		Schema: r.Schema, Worker: "one", OpenAfter: openAfter, OpenFor: openFor, OpenForMax: openForMax,
		Events: Events{
			Telling: func() Telling { return t }, Died: func(x Result) { told.died = append(told.died, x.ID) },
			Untold: func(err error) { told.untold = append(told.untold, err) },
		},
	}), told
}

func (r *rig) tellingClaimer() *Claimer {
	return NewClaimer(Direct(r.Pool), ClaimerConfig{
		Schema: r.Schema, Worker: "one", Lease: lease, OpenAfter: openAfter, Events: Events{Telling: func() Telling { return Write }},
	})
}

// notes returns the rows of outbox.event as text, in order.
func (r *rig) notes() string {
	r.t.Helper()
	return one[string](r, `SELECT coalesce(string_agg(kind || ' ' || lane || ' ' || n || ' ' || coalesce(reason, ''), '; ' ORDER BY kind, lane, reason), '') FROM outbox.event`)
}

// tell makes messages of all notes, and returns how many messages.
func (r *rig) tell(t *Teller) int {
	r.t.Helper()
	told, _, err := t.Tell(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return len(told)
}

// eventBody is the body of an event's message.
type eventBody struct {
	Type string
	Data struct {
		Endpoint, Worker, Scope, Tenant string
		Count                           int
		Reasons                         map[string]int
		MessageID                       string `json:"message_id"`
	}
}

// events returns the bodies of all event messages, the oldest first.
func (r *rig) events() (all []eventBody) {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), sqlschema.In(`SELECT result FROM outbox.message WHERE kind = 'event' ORDER BY id`, r.Schema))
	if err != nil {
		r.t.Fatal(err)
	}
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, body := range bodies {
		var x eventBody
		if err := json.Unmarshal(body, &x); err != nil {
			r.t.Fatalf("%s: %v", body, err)
		}
		all = append(all, x)
	}
	return all
}

func TestADeadMessageIsNotedInTheTransactionOfItsRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	dead := results(r.claimOne("one"))["refused"]
	recorder, told := r.tellingRecorder(Write)
	r.exec(`CREATE FUNCTION outbox.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'`)
	r.exec(`CREATE CONSTRAINT TRIGGER no AFTER INSERT ON outbox.dead DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox.no()`) // makes the commit fail
	if _, err := recorder.Record(t.Context(), []Result{dead}); err == nil || r.notes() != "" || len(told.died) != 0 {
		t.Fatalf("the record returns %v, the notes are %q, and the callbacks got %v; want an error and nothing else", err, r.notes(), told)
	}
	r.exec(`DROP TRIGGER no ON outbox.dead`)
	if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil {
		t.Fatal(err)
	}
	if want := "message.dead https://a.test 1 refused"; r.notes() != want {
		t.Errorf("the notes are %q, want %q", r.notes(), want)
	}
	if len(told.died) != 1 || told.died[0] != id || len(told.untold) != 0 {
		t.Errorf("the callbacks got %v, want the dead message only", told)
	}
	if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil || len(told.died) != 1 || !strings.HasSuffix(r.notes(), " 1 refused") {
		t.Errorf("after a second record: %v, the callbacks got %v, and the notes are %s; want nothing added", err, told.died, r.notes())
	}
}

// TestChangesOfARecordAreNoted by each form of the statement. Failures that open no circuit breaker, and answers that close
// none, are no events.
func TestChangesOfARecordAreNoted(t *testing.T) {
	t.Parallel()
	for form, record := range map[string]func(*Recorder, []Result) ([]EndpointChange, error){
		"record": func(c *Recorder, x []Result) ([]EndpointChange, error) { return c.Record(t.Context(), x) },
		"try": func(c *Recorder, x []Result) ([]EndpointChange, error) {
			tried, err := c.TryRecord(t.Context(), x, false)
			return tried.Changes, err
		},
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ('https://opens.test', 9, ''), ('https://closes.test', 10, ''), ('https://answers.test', 9, '')`)
			for _, host := range []string{"opens", "closes", "answers", "fails", "dies", "dies"} {
				r.writeTo("https://"+host+".test/hook", "run")
			}
			var batch []Result
			for _, m := range r.claim("one") {
				what := map[string]string{"https://opens.test": "failed", "https://fails.test": "failed", "https://dies.test": "refused"}[m.Endpoint]
				if what == "" {
					what = "delivered"
				}
				batch = append(batch, results(m)[what])
			}
			recorder, told := r.tellingRecorder(Write)
			changes, err := record(recorder, batch)
			if err != nil || len(told.died) != 2 || len(told.untold) != 0 {
				t.Fatalf("the record returns %v, and the callbacks got %v; want two dead messages", err, told)
			}
			wasOpen := map[string]string{}
			for _, c := range changes {
				wasOpen[c.Endpoint] = fmt.Sprint(c.What, " ", c.WasOpen)
			}
			if want := "map[https://answers.test:closed false https://closes.test:closed true https://opens.test:opened false]"; fmt.Sprint(wasOpen) != want {
				t.Errorf("the changes are %v, want %s", wasOpen, want)
			}
			want := "breaker.closed https://closes.test 1 answers; breaker.opened https://opens.test 1 failing: answered 500; message.dead https://dies.test 2 refused"
			if r.notes() != want {
				t.Errorf("the notes are %s\n want: %s", r.notes(), want)
			}
		})
	}
}

func TestACircuitBreakerThatDeliveriesCloseIsNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ('https://a.test', 10, ''), ('https://b.test', 1, '')`)
	r.writeTo("https://a.test/hook", "run")
	r.writeTo("https://b.test/hook", "run")
	var batch []Result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)["delivered"])
	}
	recorder, _ := r.tellingRecorder(Write)
	if _, err := recorder.Record(t.Context(), batch); err != nil || r.notes() != "breaker.closed https://a.test 1 answers" {
		t.Errorf("the record returns %v, and the notes are %s; want one closed circuit breaker", err, r.notes())
	}
}

func TestARecordIsMadeWithoutNotesIfTheDatabaseRefusesThem(t *testing.T) {
	t.Parallel()
	for what, hinder := range map[string]string{
		"a trigger": `CREATE FUNCTION outbox.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE TRIGGER no BEFORE INSERT ON outbox.event FOR EACH ROW EXECUTE FUNCTION outbox.no()`,
		"no table": `DROP TABLE outbox.event`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.writeTo("https://a.test/hook", "run-1")
			recorder, told := r.tellingRecorder(Write)
			dead := results(r.claimOne("one"))["refused"]
			r.exec(hinder)
			if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil {
				t.Fatal(err)
			}
			if len(told.untold) != 1 || len(told.died) != 1 || r.count(`SELECT count(*) FROM outbox.dead`) != 1 {
				t.Errorf("the callbacks got %v, want one dead message and one lost note", told)
			}
		})
	}
}

func TestALockOnTheTableOfEventsDoesNotStopARecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://a.test/hook", "run-1")
	recorder, told := r.tellingRecorder(Write)
	recorder.db = Direct(r.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 }))
	if _, err := recorder.Record(t.Context(), []Result{results(r.claimOne("one"))["retried"]}); err != nil { // prepares the statement
		t.Fatal(err)
	}
	r.exec(`UPDATE outbox.endpoint SET open_until = NULL; UPDATE outbox.due SET due_at = now()`)
	dead := results(r.claimOne("one"))["refused"]
	tx, err := r.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), sqlschema.In(`LOCK TABLE outbox.event`, r.Schema)); err != nil {
		t.Fatal(err)
	}
	if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil || len(told.untold) != 1 {
		t.Errorf("the record returns %v, and the callbacks got %v; want one lost note", err, told)
	}
}

func TestMessagesThatAClaimSetsAsideAreNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write(outbox.Message{Outcome: outbox.RunOutcome{RunID: "old", Status: outbox.Succeeded, Result: []byte("{}")}, URL: "https://a.test/", Options: outbox.Options{ExpireAfter: time.Second}})
	r.exec(`UPDATE outbox.message SET created_at = now() - interval '1 h'`)
	contradicts := r.writeTo("https://b.test/", "contradicts")
	r.exec(`UPDATE outbox.message SET error = 'no' WHERE id = $1`, contradicts)
	if _, err := r.tellingClaimer().Claim(t.Context(), Order{Most: 10, Turns: r.turns(10)}); err != nil {
		t.Fatal(err)
	}
	if want := "message.dead https://a.test 1 expired; message.set_aside https://b.test 1 poison"; r.notes() != want {
		t.Errorf("the notes are %s\n want: %s", r.notes(), want)
	}
}

func TestWithoutEventsNothingIsNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`DROP TABLE outbox.event`) // as before version 9
	r.writeTo("https://a.test/hook", "run-1")
	dead := results(r.claimOne("one"))["refused"]
	recorder, told := r.tellingRecorder(Answer)
	if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil || len(told.died) != 1 || len(told.untold) != 0 {
		t.Errorf("the record returns %v, and the callbacks got %v; want one dead message", err, told)
	}
	for name, sql := range r.recorder("one").sql[Quiet].byName() {
		if strings.Contains(sql, ".event") {
			t.Errorf("the statement %s names the table of events, want that none does", name)
		}
	}
}

// byName returns the statements by their names.
func (s recordStatements) byName() map[string]string {
	return map[string]string{"deliveries": s.deliveries, "beside": s.deliveriesBeside, "all": s.all, "try": s.try, "pause": s.pause}
}

func TestAnEventIsAMessageInTheLaneOfEventsWithoutARealURL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane, n, reason) VALUES ('message.dead', 'https://a.test acme', 3, 'gone'), ('message.dead', 'https://a.test acme', 2, 'refused')`)
	if n := r.tell(r.teller(5 * time.Minute)); n != 1 || r.notes() != "" {
		t.Fatalf("%d messages, and the notes left are %s; want one message and no notes", n, r.notes())
	}
	x := r.events()[0]
	if x.Type != "outbox.message.dead" || x.Data.Endpoint != "https://a.test" || x.Data.Scope != event.ScopeTenant || x.Data.Tenant != "acme" ||
		x.Data.Count != 5 || fmt.Sprint(x.Data.Reasons) != "map[gone:3 refused:2]" {
		t.Errorf("the event is %+v, want the sum of both notes", x)
	}
	if n := r.count(`SELECT count(*) FROM outbox.message m JOIN outbox.due d ON d.message_id = m.id
WHERE d.endpoint = 'event' AND m.endpoint = 'event' AND m.kind = 'event' AND m.url = $1 AND m.tenant = 'acme'`, event.URL); n != 1 {
		t.Errorf("%d messages are in the lane of events with its URL and the tenant, want 1", n)
	}
}

// TestEventsOfAnEndpointAndKindAreSummedUp: there is one at first, and then one per interval with a count. The time of the last
// one is in a table, so the test can change it.
func TestEventsOfAnEndpointAndKindAreSummedUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	teller := r.teller(5 * time.Minute)
	happen := func(n int) {
		r.exec(`INSERT INTO outbox.event (kind, lane, reason) SELECT 'message.dead', 'https://a.test', 'refused' FROM generate_series(1, $1)`, n)
	}
	happen(1)
	if n := r.tell(teller); n != 1 {
		t.Fatalf("%d messages for the first event, want 1", n)
	}
	for range 3 {
		happen(200)
		if n := r.tell(teller); n != 0 {
			t.Fatalf("%d messages for events soon after, want none", n)
		}
	}
	r.exec(`INSERT INTO outbox.event (kind, lane, reason) VALUES ('breaker.opened', 'https://a.test', ''), ('message.dead', 'https://b.test', '')`)
	if n := r.tell(teller); n != 2 {
		t.Fatalf("%d messages for another kind and another endpoint, want 2", n)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`)
	if n := r.tell(teller); n != 1 {
		t.Fatalf("%d messages after the interval, want 1", n)
	}
	all := r.events()
	if last := all[len(all)-1]; last.Data.Count != 600 || last.Data.Endpoint != "https://a.test" {
		t.Errorf("the last event is %+v, want a count of 600", last)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`)
	if n := r.tell(teller); n != 0 {
		t.Errorf("%d messages without an event, want none", n)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '1 hour'`)
	r.tell(r.teller(5 * time.Minute)) // a new Teller prunes at once
	if n := r.count(`SELECT count(*) FROM outbox.event_told`); n != 0 {
		t.Errorf("%d rows are left of events long ago, want none", n)
	}
}

func TestManyDeadMessagesMakeFewNotesAndOneEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("https://a.test", 1000, 10)
	recorder, _ := r.tellingRecorder(Write)
	var batch []Result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)["refused"])
	}
	if len(batch) != 1000 {
		t.Fatalf("%d messages claimed, want 1000", len(batch))
	}
	for _, part := range [][]Result{batch[:500], batch[500:]} {
		if _, err := recorder.Record(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.event`); n != 2 {
		t.Errorf("%d notes of two batches, want 2", n)
	}
	if n := r.tell(r.teller(time.Minute)); n != 1 || r.events()[0].Data.Count != 1000 {
		t.Errorf("%d events: %+v; want one with a count of 1000", n, r.events())
	}
}

// TestARunThatDoesNotTakeAllNotesSaysSo: the next one follows at once.
func TestARunThatDoesNotTakeAllNotesSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane) SELECT 'breaker.opened', 'https://a.test' FROM generate_series(1, $1::integer)`, tellMost+1)
	teller := r.teller(time.Minute)
	for i, want := range []struct {
		left int
		more bool
	}{{1, true}, {0, false}} {
		if _, more, err := teller.Tell(t.Context()); err != nil || more != want.more || r.count(`SELECT count(*) FROM outbox.event`) != want.left {
			t.Errorf("run %d: more is left: %v, want %v; %v", i+1, more, want.more, err)
		}
	}
}

func TestOneTransactionWritesEventsAndDeletesTheirNotes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane) VALUES ('breaker.opened', 'https://a.test')`)
	r.exec(`CREATE FUNCTION outbox.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'`)
	r.exec(`CREATE CONSTRAINT TRIGGER no AFTER INSERT ON outbox.due DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox.no()`)
	teller := r.teller(time.Minute)
	if _, _, err := teller.Tell(t.Context()); err == nil || len(r.events()) != 0 || r.notes() == "" {
		t.Fatalf("Tell returns %v, with %d events, and the notes are %s; want an error, no event and the note", err, len(r.events()), r.notes())
	}
	r.exec(`DROP TRIGGER no ON outbox.due`)
	if n := r.tell(teller); n != 1 || r.notes() != "" {
		t.Errorf("%d events, and the notes are %s; want one, and none", n, r.notes())
	}
}

func TestFailuresOfEventsMakeNoEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane) VALUES ('breaker.opened', 'https://a.test')`)
	r.tell(r.teller(time.Minute))
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ('event', 9, '')`)
	recorder, told := r.tellingRecorder(Write)
	dead := results(r.claimOne("one"))["failed"]
	dead.Action, dead.Reason = ActionDead, "exhausted"
	changes, err := recorder.Record(t.Context(), []Result{dead})
	if err != nil || len(changes) != 1 || changes[0].What != EndpointOpened || len(told.died) != 1 {
		t.Fatalf("the record returns %v and changes %v, and the callbacks got %v; want a circuit breaker opened and a dead message", err, changes, told)
	}
	if r.notes() != "" {
		t.Errorf("the notes are %s, want none", r.notes())
	}
}

func TestUsableSaysWhatTheTablesOfEventsLack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if why, err := r.teller(time.Minute).Usable(t.Context()); why != "" || err != nil {
		t.Errorf("Usable returns %q, %v; want neither a reason nor an error", why, err)
	}
	r.exec(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 8'`)
	if why, err := r.teller(time.Minute).Usable(t.Context()); !strings.Contains(why, "migrate up") || err != nil {
		t.Errorf("without the tables, Usable returns %q, %v; want a reason that names migrate up", why, err)
	}
}

func TestNotesThatAreADayOldMakeNoEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane, at) VALUES ('breaker.opened', 'https://a.test', now() - interval '25 hours'), ('breaker.opened', 'https://b.test', 'infinity'),
    ('breaker.opened', 'https://c.test', '-infinity')`)
	if n := r.tell(r.teller(time.Minute)); n != 1 || r.notes() != "" || r.events()[0].Data.Endpoint != "https://b.test" {
		t.Errorf("%d messages, and the notes left are %s; want one message and no notes", n, r.notes())
	}
}

func TestAnEndpointThatIsPausedBecauseOfItsRowIsNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("https://healthy.test", 2, 0)
	r.due(bad, 2, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, 1000, '')`, bad)
	r.exec(`ALTER TABLE outbox.endpoint ADD CONSTRAINT no_probes CHECK (NOT probing)`)
	claimer := r.tellingClaimer()
	for range 5 { // one claim finds out what the database accepts, and the next one claims it
		if _, err := claimer.Claim(t.Context(), Order{Most: 10, Turns: r.turns(10)}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "endpoint.set_aside " + bad + " 1 "; !strings.HasPrefix(r.notes(), want) {
		t.Errorf("the notes are %q, want %q", r.notes(), want)
	}
	r.exec(`DELETE FROM outbox.event; ALTER TABLE outbox.endpoint ADD CONSTRAINT no_failures CHECK (failures = 0) NOT VALID`)
	failed := Result{ID: outbox.NewID(), Endpoint: "https://c.test", Action: ActionRetry, Class: "timeout", Says: []Saying{{Lane: "https://c.test", Failures: 1}}}
	recorder, told := r.tellingRecorder(Write)
	changes, err := recorder.PauseRefused(t.Context(), failed, "SQLSTATE 23514")
	if err != nil || len(changes) != 1 || len(told.untold) != 0 {
		t.Fatalf("PauseRefused changes %v, %v, and the callbacks got %v; want one endpoint, and no lost note", changes, err, told)
	}
	if want := "endpoint.set_aside https://c.test 1 poison: "; !strings.HasPrefix(r.notes(), want) {
		t.Errorf("the notes are %q, want %q", r.notes(), want)
	}
}

func TestAStatementIsMadeWithoutEventsOnlyWhereTheyCanBeTheReason(t *testing.T) {
	t.Parallel()
	inARow := &pgconn.PgError{Code: "55P03", Where: "while inserting index tuple"}
	for what, c := range map[string]struct {
		telling Telling
		first   error
		runs    string
	}{
		"it succeeds":                {Write, nil, "[2]"},
		"the database refuses it":    {Write, &pgconn.PgError{Code: "42501"}, "[2 1]"},
		"the whole table is locked":  {Write, &pgconn.PgError{Code: "55P03"}, "[2 1]"},
		"a row is locked":            {Write, inARow, "[2]"},
		"the connection is lost":     {Write, &pgconn.PgError{Code: "08006"}, "[2]"},
		"it is about no event":       {Answer, &pgconn.PgError{Code: "42501"}, "[1]"},
		"nothing is asked of events": {Quiet, &pgconn.PgError{Code: "42501"}, "[0]"},
	} {
		var runs []Telling
		var untold []error
		e := Events{Telling: func() Telling { return c.telling }, Untold: func(err error) { untold = append(untold, err) }}
		err := e.tell(func(t Telling) error {
			if runs = append(runs, t); len(runs) == 1 {
				return c.first
			}
			return nil
		})
		if got := fmt.Sprint(runs); got != c.runs {
			t.Errorf("%s: it is made as %s, want %s", what, got, c.runs)
		}
		if again := len(runs) == 2; again != (len(untold) == 1) || again && err != nil || !again && err != c.first {
			t.Errorf("%s: it returned %v and reported %v, want an error or a report, and only after a second try", what, err, untold)
		}
	}
}

// One worker at a time writes that events are wanted, too.
func TestATellerDoesNothingWhileAnotherOneTells(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	teller := r.teller(time.Minute)
	r.exec(`INSERT INTO outbox.event (kind, lane, n, reason) VALUES ('endpoint.paused', 'https://a.test', 1, 'x')`)
	tx, err := r.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	var mine bool
	if err := tx.QueryRow(t.Context(), teller.sql.lock).Scan(&mine); err != nil || !mine {
		t.Fatalf("the test did not get the lock of tellers: %v", err)
	}
	if n := r.tell(teller); n != 0 {
		t.Errorf("%d events are written, want none", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.event_wanted`); n != 0 {
		t.Error("it wrote that events are wanted, want that this waits for the lock")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.tell(teller); n != 1 {
		t.Errorf("%d events are written when the other one has ended, want 1", n)
	}
}
