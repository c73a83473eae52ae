package operator_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// inState writes a message and does to its rows what a worker does.
func inState(t *testing.T, db *testdb.DB, state outbox.State, m outbox.Message) outbox.ID {
	t.Helper()
	id := fixture.Write(t, db, m)
	switch state {
	case outbox.StateDelivering:
		fixture.Execute(t, db, `UPDATE %s.due SET attempt = 1, locked_by = 'w', locked_until = now() + interval '1 hour'
WHERE message_id = '%s'`, db.Schema, id)
	case outbox.StateRetrying:
		attempted(t, db, id, 1, "'status', 503, 'busy'")
		fixture.Execute(t, db, `UPDATE %s.due SET attempt = 1, due_at = now() + interval '5 minutes' WHERE message_id = '%s'`, db.Schema, id)
	case outbox.StateDelivered:
		attempted(t, db, id, 1, "'delivered', 200, NULL")
		fixture.Execute(t, db, `DELETE FROM %s.due WHERE message_id = '%s'`, db.Schema, id)
	case outbox.StateDead:
		attempted(t, db, id, 1, "'status', 404, 'not found'")
		fixture.Execute(t, db, `DELETE FROM %s.due WHERE message_id = '%s'`, db.Schema, id)
		fixture.Execute(t, db, `INSERT INTO %s.dead (message_id, endpoint, reason, error)
SELECT id, endpoint, 'refused', 'the receiver answered 404' FROM %s.message WHERE id = '%s'`, db.Schema, db.Schema, id)
	case outbox.StateCancelled:
		must(t, fixture.Store(t, db).Cancel(t.Context(), []outbox.ID{id}, ""))
	case outbox.StatePending:
	}
	return id
}

func attempted(t *testing.T, db *testdb.DB, id outbox.ID, attempt int, answer string) {
	t.Helper()
	fixture.Execute(t, db, `INSERT INTO %s.attempt (message_id, attempt, started_at, duration_ms, class, status_code, error, response, worker)
SELECT '%s', %d, now(), 12, a.*, 'the body', 'w' FROM (VALUES (%s)) a`, db.Schema, id, attempt, answer)
}

// oneOfEach writes a message in each state.
func oneOfEach(t *testing.T, db *testdb.DB) map[outbox.State]outbox.ID {
	t.Helper()
	ids := map[outbox.State]outbox.ID{}
	for _, state := range outbox.States {
		ids[state] = inState(t, db, state, fixture.Message(string(state)))
	}
	return ids
}

func TestEachStateIsShownAsSuch(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for state, id := range oneOfEach(t, db) {
		d := fixture.Show(t, db, id)
		due := state == outbox.StatePending || state == outbox.StateDelivering || state == outbox.StateRetrying
		dead := state == outbox.StateDead || state == outbox.StateCancelled
		if d.State != state || d.RunID != string(state) || (d.NextAttemptAt != nil) != due || (d.DeadReason != nil) != dead ||
			(d.LockedBy != nil) != (state == outbox.StateDelivering) {
			t.Errorf("%s is shown as %+v", state, d.MessageStatus)
		}
	}
	d := fixture.Show(t, db, inState(t, db, outbox.StateRetrying, fixture.Message("run")))
	if d.Attempts != 1 || *d.LastClass != "status" || *d.LastStatusCode != 503 || *d.LastError != "busy" || d.LastAttemptAt == nil {
		t.Errorf("the last attempt is shown as %+v", d.MessageStatus)
	}
	if len(d.AttemptList) != 1 || d.AttemptList[0].Attempt != 1 || d.AttemptList[0].Worker != "w" || *d.AttemptList[0].Response != "the body" {
		t.Errorf("the attempts are %+v", d.AttemptList)
	}
	if _, err := json.Marshal(d); err != nil {
		t.Error(err)
	}
}

func TestAnExpiredLeaseIsDueAgain(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	id := inState(t, db, outbox.StateDelivering, fixture.Message("run"))
	fixture.Execute(t, db, `UPDATE %s.due SET locked_until = now() - interval '1 second'`, db.Schema)
	if d := fixture.Show(t, db, id); d.State != outbox.StateRetrying || d.Attempts != 1 {
		t.Errorf("it is %s after %d attempts", d.State, d.Attempts)
	}
}

func TestTheOverviewCountsEveryState(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	empty, err := s.Overview(t.Context())
	must(t, err)
	oneOfEach(t, db)
	inState(t, db, outbox.StateDelivered, fixture.Message("another"))
	full, err := s.Overview(t.Context())
	must(t, err)
	if len(empty) != len(outbox.States) || len(full) != len(outbox.States) {
		t.Fatalf("%d and %d rows, want %d", len(empty), len(full), len(outbox.States))
	}
	for i, state := range outbox.States {
		want := operator.StateCount{State: state, Messages: 1}
		if state == outbox.StateDelivered {
			want.Messages = 2
		}
		if empty[i] != (operator.StateCount{State: state}) || full[i].State != state || full[i].Messages != want.Messages {
			t.Errorf("%s: empty %+v, full %+v", state, empty[i], full[i])
		}
		waits := state == outbox.StatePending || state == outbox.StateRetrying
		dead := state == outbox.StateDead || state == outbox.StateCancelled
		flies := state == outbox.StateDelivering
		if (full[i].OldestDue != nil) != waits || (full[i].OldestDead != nil) != dead ||
			(full[i].OldestInFlight != nil) != flies || (full[i].OldestLeaseUntil != nil) != flies {
			t.Errorf("%s: %+v", state, full[i])
		}
	}
}

func to(url string) outbox.Message {
	m := fixture.Message("run")
	m.URL = url
	return m
}

func TestTheEndpointsThatFailOrWaitNowAreListedFirst(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	inState(t, db, outbox.StateDelivered, to("https://fine.example"))
	inState(t, db, outbox.StateDead, to("https://long-dead.example"))
	fixture.Execute(t, db, `UPDATE %s.dead SET at = now() - interval '2 h'`, db.Schema)
	inState(t, db, outbox.StatePending, to("https://waiting.example"))
	inState(t, db, outbox.StateRetrying, to("https://bad.example"))
	inState(t, db, outbox.StateDead, to("https://worse.example"))
	inState(t, db, outbox.StateRetrying, to("https://worse.example"))
	inState(t, db, outbox.StateDelivering, to("https://worse.example"))
	inState(t, db, outbox.StateDead, to("https://refusing.example"))
	inState(t, db, outbox.StatePending, to("https://paused.example"))
	inState(t, db, outbox.StatePending, to("relative"))
	must(t, s.Pause(t.Context(), "https://paused.example", "they asked us"))
	list, err := s.Endpoints(t.Context(), 0)
	must(t, err)
	var order []string
	for _, e := range list {
		order = append(order, strings.TrimSuffix(strings.TrimPrefix(e.Endpoint, "https://"), ".example"))
	}
	if got := strings.Join(order, " "); got != "worse bad refusing waiting paused long-dead" {
		t.Errorf("the order is %s", got)
	}
	if p := list[4]; !p.Paused || p.Reason == nil || *p.Reason != "they asked us" || p.Since == nil {
		t.Errorf("the paused one is %+v", p)
	}
	if w := list[0]; w.Dead != 1 || w.Retrying != 1 || w.Waiting != 2 || w.Delivering != 1 || w.OldestDue == nil || w.LastDead == nil {
		t.Errorf("the worst is %+v", w)
	}
	page, err := s.EndpointPage(t.Context(), 2)
	if err != nil || len(page.Endpoints) != 2 || page.Unlisted != 4 || page.Hurting != 1 {
		t.Errorf("with a limit of 2: %+v, %v", page, err)
	}
}

// What a worker or a psql session has in its search path is nothing that a view may rest on.
func TestTheViewsAnswerWithoutASearchPath(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	ids := oneOfEach(t, db)
	bare := &testdb.DB{Name: db.Name, Schema: db.Schema, URL: db.URL}
	bare.Pool = db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = "" })
	if path := fixture.One[string](t, bare.Pool, "SHOW search_path"); path != "" {
		t.Fatalf("the search path is %q", path)
	}
	for _, view := range []string{"status", "overview", "dead_message", "endpoint_status", "tenant_status", "lane_count"} {
		if fixture.Count(t, bare, view) == 0 {
			t.Errorf("%s is empty", view)
		}
	}
	if v := fixture.One[int](t, bare.Pool, "SELECT "+db.Schema+".version()"); v == 0 {
		t.Errorf("version() is %d", v)
	}
	s := fixture.Store(t, bare)
	_, err := s.Replay(t.Context(), []outbox.ID{ids[outbox.StateDead]}, "")
	must(t, err)
	if list, err := s.List(t.Context(), operator.Filter{}); err != nil || len(list) != len(ids) {
		t.Errorf("%d are listed, %v", len(list), err)
	}
	fixture.Write(t, bare, fixture.Message("run"))
}

func TestWhatAStoreIsMadeOfIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := operator.NewStore(testdb.New(t).Pool, "No"); !errors.Is(err, outbox.ErrInvalidSchema) {
		t.Errorf("a schema that cannot be: %v", err)
	}
	if _, err := operator.NewStore((*pgxpool.Pool)(nil), ""); err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("a pool that is nil: %v", err)
	}
}
