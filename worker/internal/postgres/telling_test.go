package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// teller of events, and a recorder and a claimer that write them.
func (r *rig) teller(every time.Duration) *Teller {
	return NewTeller(Direct(r.Pool), TellerConfig{Schema: r.Schema, Every: every})
}

type toldOf struct {
	died   []outbox.ID
	untold []error
}

func (r *rig) tellingRecorder(t Telling) (*Recorder, *toldOf) {
	told := &toldOf{}
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

// notes are the rows of outbox.event, as text in their order.
func (r *rig) notes() string {
	r.t.Helper()
	return one[string](r, `SELECT coalesce(string_agg(kind || ' ' || lane || ' ' || n || ' ' || coalesce(reason, ''), '; ' ORDER BY kind, lane, reason), '') FROM outbox.event`)
}

// tell makes messages of all notes, and returns how many.
func (r *rig) tell(t *Teller) int {
	r.t.Helper()
	told, _, err := t.Tell(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return len(told)
}

// told is an event's body.
type told struct {
	Type string
	Data struct {
		Endpoint, Worker, Scope, Tenant string
		Count                           int
		Reasons                         map[string]int
		MessageID                       string `json:"message_id"`
	}
}

// events are the bodies of all event messages, the oldest first.
func (r *rig) events() (all []told) {
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
		var x told
		if err := json.Unmarshal(body, &x); err != nil {
			r.t.Fatalf("%s: %v", body, err)
		}
		all = append(all, x)
	}
	return all
}

func TestADeathIsNotedInTheTransactionOfItsRecordAndNotWithoutIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	dead := results(r.claimOne("one"))["refused"]
	recorder, told := r.tellingRecorder(Write)
	r.exec(`CREATE FUNCTION outbox.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'`)
	r.exec(`CREATE CONSTRAINT TRIGGER no AFTER INSERT ON outbox.dead DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox.no()`) // breaks the commit
	if _, err := recorder.Record(t.Context(), []Result{dead}); err == nil || r.notes() != "" || len(told.died) != 0 {
		t.Fatalf("the record: %v; noted: %q; told: %v", err, r.notes(), told)
	}
	r.exec(`DROP TRIGGER no ON outbox.dead`)
	if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil {
		t.Fatal(err)
	}
	if want := "message.dead https://a.test 1 refused"; r.notes() != want {
		t.Errorf("noted: %q; want %q", r.notes(), want)
	}
	if len(told.died) != 1 || told.died[0] != id || len(told.untold) != 0 {
		t.Errorf("told: %v", told)
	}
	if _, err := recorder.Record(t.Context(), []Result{dead}); err != nil || len(told.died) != 1 || !strings.HasSuffix(r.notes(), " 1 refused") {
		t.Errorf("recorded a second time: %v, %v, %s", err, told.died, r.notes())
	}
}

// TestWhatARecordChangesIsNoted in each of its forms. Failures that open nothing, and answers that close nothing, are no events.
func TestWhatARecordChangesIsNoted(t *testing.T) {
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
				t.Fatalf("%v, told %v", err, told)
			}
			wasOpen := map[string]string{}
			for _, c := range changes {
				wasOpen[c.Endpoint] = fmt.Sprint(c.What, " ", c.WasOpen)
			}
			if want := "map[https://answers.test:closed false https://closes.test:closed true https://opens.test:opened false]"; fmt.Sprint(wasOpen) != want {
				t.Errorf("changes: %v; want %s", wasOpen, want)
			}
			want := "breaker.closed https://closes.test 1 answers; breaker.opened https://opens.test 1 failing: answered 500; message.dead https://dies.test 2 refused"
			if r.notes() != want {
				t.Errorf("noted: %s\n want: %s", r.notes(), want)
			}
		})
	}
}

func TestAnEndpointThatClosesByDeliveriesAloneIsNoted(t *testing.T) {
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
		t.Errorf("%v, noted: %s", err, r.notes())
	}
}

func TestARecordIsMadeWithoutEventsWhereTheDatabaseRefusesThem(t *testing.T) {
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
				t.Errorf("told: %v", told)
			}
		})
	}
}

func TestTheTableOfEventsLockedAsAWholeKeepsNothingFromTheRecord(t *testing.T) {
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
		t.Errorf("%v, told %v", err, told)
	}
}

func TestWhatAClaimSetsAsideIsNoted(t *testing.T) {
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
		t.Errorf("noted: %s\n want: %s", r.notes(), want)
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
		t.Errorf("%v, told %v", err, told)
	}
	for name, sql := range r.recorder("one").sql[Quiet].byName() {
		if strings.Contains(sql, ".event") {
			t.Errorf("%s names the table of events", name)
		}
	}
}

// byName are the statements by their names.
func (s recordStatements) byName() map[string]string {
	return map[string]string{"deliveries": s.deliveries, "beside": s.deliveriesBeside, "all": s.all, "try": s.try, "pause": s.pause}
}

func TestAnEventIsAMessageInALaneOfItsOwnWithoutTheURL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane, n, reason) VALUES ('message.dead', 'https://a.test acme', 3, 'gone'), ('message.dead', 'https://a.test acme', 2, 'refused')`)
	if n := r.tell(r.teller(5 * time.Minute)); n != 1 || r.notes() != "" {
		t.Fatalf("%d messages; left: %s", n, r.notes())
	}
	x := r.events()[0]
	if x.Type != "outbox.message.dead" || x.Data.Endpoint != "https://a.test" || x.Data.Scope != event.ScopeTenant || x.Data.Tenant != "acme" ||
		x.Data.Count != 5 || fmt.Sprint(x.Data.Reasons) != "map[gone:3 refused:2]" {
		t.Errorf("the event: %+v", x)
	}
	if n := r.count(`SELECT count(*) FROM outbox.message m JOIN outbox.due d ON d.message_id = m.id
WHERE d.endpoint = 'event' AND m.endpoint = 'event' AND m.kind = 'event' AND m.url = $1 AND m.tenant = 'acme'`, event.URL); n != 1 {
		t.Error("the row is another one")
	}
}

// TestAnEndpointAndAKindHaveOneEventInATimeAndThenOneWithACount: the time is the table's, so a test can set it.
func TestAnEndpointAndAKindHaveOneEventInATimeAndThenOneWithACount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	teller := r.teller(5 * time.Minute)
	happen := func(n int) {
		r.exec(`INSERT INTO outbox.event (kind, lane, reason) SELECT 'message.dead', 'https://a.test', 'refused' FROM generate_series(1, $1)`, n)
	}
	happen(1)
	if n := r.tell(teller); n != 1 {
		t.Fatalf("%d messages of the first", n)
	}
	for range 3 {
		happen(200)
		if n := r.tell(teller); n != 0 {
			t.Fatalf("%d messages of what came soon after", n)
		}
	}
	r.exec(`INSERT INTO outbox.event (kind, lane, reason) VALUES ('breaker.opened', 'https://a.test', ''), ('message.dead', 'https://b.test', '')`)
	if n := r.tell(teller); n != 2 {
		t.Fatalf("%d messages of another kind and another endpoint", n)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`)
	if n := r.tell(teller); n != 1 {
		t.Fatalf("%d messages when the time was over", n)
	}
	all := r.events()
	if last := all[len(all)-1]; last.Data.Count != 600 || last.Data.Endpoint != "https://a.test" {
		t.Errorf("the last event: %+v", last)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`)
	if n := r.tell(teller); n != 0 {
		t.Errorf("%d messages of nothing", n)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '1 hour'`)
	r.tell(r.teller(5 * time.Minute)) // a new one prunes at once
	if n := r.count(`SELECT count(*) FROM outbox.event_told`); n != 0 {
		t.Errorf("%d rows of what was told long ago", n)
	}
}

func TestADeathOfManyIsAFewRowsAndOneMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("https://a.test", 1000, 10)
	recorder, _ := r.tellingRecorder(Write)
	var batch []Result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)["refused"])
	}
	if len(batch) != 1000 {
		t.Fatalf("%d claimed", len(batch))
	}
	for _, part := range [][]Result{batch[:500], batch[500:]} {
		if _, err := recorder.Record(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.event`); n != 2 {
		t.Errorf("%d notes of two batches", n)
	}
	if n := r.tell(r.teller(time.Minute)); n != 1 || r.events()[0].Data.Count != 1000 {
		t.Errorf("%d messages: %+v", n, r.events())
	}
}

func TestTheMessagesAndTheEndOfTheirNotesAreOneTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane) VALUES ('breaker.opened', 'https://a.test')`)
	r.exec(`CREATE FUNCTION outbox.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'`)
	r.exec(`CREATE CONSTRAINT TRIGGER no AFTER INSERT ON outbox.due DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox.no()`)
	teller := r.teller(time.Minute)
	if _, _, err := teller.Tell(t.Context()); err == nil || len(r.events()) != 0 || r.notes() == "" {
		t.Fatalf("%v; %d messages; notes: %s", err, len(r.events()), r.notes())
	}
	r.exec(`DROP TRIGGER no ON outbox.due`)
	if n := r.tell(teller); n != 1 || r.notes() != "" {
		t.Errorf("%d messages; notes: %s", n, r.notes())
	}
}

func TestEventsOwnFailuresRaiseNone(t *testing.T) {
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
		t.Fatalf("%v, %v, %v", err, changes, told)
	}
	if r.notes() != "" {
		t.Errorf("noted: %s", r.notes())
	}
}

func TestTheTablesOfEventsMustBeThereAndUsable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if why, err := r.teller(time.Minute).Usable(t.Context()); why != "" || err != nil {
		t.Errorf("%q, %v", why, err)
	}
	r.exec(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 8'`)
	if why, err := r.teller(time.Minute).Usable(t.Context()); !strings.Contains(why, "migrate up") || err != nil {
		t.Errorf("%q, %v", why, err)
	}
}

func TestWhatIsADayOldIsNoNews(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.event (kind, lane, at) VALUES ('breaker.opened', 'https://a.test', now() - interval '25 hours'), ('breaker.opened', 'https://b.test', 'infinity'),
    ('breaker.opened', 'https://c.test', '-infinity')`)
	if n := r.tell(r.teller(time.Minute)); n != 1 || r.notes() != "" || r.events()[0].Data.Endpoint != "https://b.test" {
		t.Errorf("%d messages; left: %s", n, r.notes())
	}
}

func TestAnEndpointThatIsPausedForItsRowIsNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("https://healthy.test", 2, 0)
	r.due(bad, 2, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, 1000, '')`, bad)
	r.exec(`ALTER TABLE outbox.endpoint ADD CONSTRAINT no_probes CHECK (NOT probing)`)
	claimer := r.tellingClaimer()
	for range 5 { // each claims what another one showed to be acceptable
		if _, err := claimer.Claim(t.Context(), Order{Most: 10, Turns: r.turns(10)}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "endpoint.set_aside " + bad + " 1 "; !strings.HasPrefix(r.notes(), want) {
		t.Errorf("noted: %q; want %q", r.notes(), want)
	}
	r.exec(`DELETE FROM outbox.event; ALTER TABLE outbox.endpoint ADD CONSTRAINT no_failures CHECK (failures = 0) NOT VALID`)
	failed := Result{ID: outbox.NewID(), Endpoint: "https://c.test", Action: ActionRetry, Class: "timeout", Says: []Saying{{Lane: "https://c.test", Failures: 1}}}
	recorder, told := r.tellingRecorder(Write)
	changes, err := recorder.PauseRefused(t.Context(), failed, "SQLSTATE 23514")
	if err != nil || len(changes) != 1 || len(told.untold) != 0 {
		t.Fatalf("%v, %v, told %v", changes, err, told)
	}
	if want := "endpoint.set_aside https://c.test 1 poison: "; !strings.HasPrefix(r.notes(), want) {
		t.Errorf("noted: %q; want %q", r.notes(), want)
	}
}
