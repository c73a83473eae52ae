package operator_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestAReplayMakesAMessageDueAtOnceInEveryStateButInFlight(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	for state, id := range oneOfEach(t, db) {
		before := fixture.Show(t, db, id)
		done, err := s.Replay(t.Context(), []outbox.ID{id}, "")
		if state == outbox.StateDelivering {
			if err == nil || !strings.Contains(err.Error(), "is being delivered now") || !strings.Contains(err.Error(), id.String()) {
				t.Errorf("%s: %v", state, err)
			}
			continue
		}
		must(t, err)
		if len(done) != 1 || done[0] != (operator.Replayed{ID: id, New: id}) {
			t.Errorf("%s: %v", state, done)
		}
		after := fixture.Show(t, db, id)
		if after.State != outbox.StatePending || after.Attempts != before.Attempts || after.DeadAt != nil ||
			after.NextAttemptAt.After(fixture.One[time.Time](t, db.Pool, "SELECT now()")) {
			t.Errorf("%s: it is %+v", state, after.MessageStatus)
		}
		from := fixture.One[int](t, db.Pool, "SELECT attempts_before FROM "+db.Schema+".due WHERE message_id = $1", id)
		if from != before.Attempts {
			t.Errorf("%s: the schedule begins after attempt %d, want %d", state, from, before.Attempts)
		}
	}
}

func TestAReplayToAnotherURLIsACopy(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	for state, id := range oneOfEach(t, db) {
		before := fixture.Show(t, db, id)
		done, err := s.Replay(t.Context(), []outbox.ID{id}, other)
		switch state {
		case outbox.StatePending, outbox.StateRetrying, outbox.StateDelivering:
			if err == nil || !strings.Contains(err.Error(), "cancel it") {
				t.Errorf("%s: %v", state, err)
			}
			continue
		case outbox.StateDelivered, outbox.StateDead, outbox.StateCancelled:
		}
		must(t, err)
		if len(done) != 1 || done[0].ID != id || done[0].New == id {
			t.Fatalf("%s: %v", state, done)
		}
		was, is := fixture.Show(t, db, id), fixture.Show(t, db, done[0].New)
		want := outbox.StateCancelled
		if state == outbox.StateDelivered {
			want = outbox.StateDelivered // it was, and stays so
		}
		if was.State != want || was.URL != before.URL {
			t.Errorf("%s: the old one is %+v", state, was.MessageStatus)
		}
		if is.State != outbox.StatePending || is.URL != other || is.Endpoint != "https://other.example" || is.ReplayOf == nil ||
			*is.ReplayOf != id || is.RunID != before.RunID || string(is.Result) != string(before.Result) || is.Attempts != 0 {
			t.Errorf("%s: the copy is %+v", state, is.MessageStatus)
		}
	}
}

func TestAnInvalidMessageIsReplayedToAURLOnly(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	m := fixture.Message("run")
	m.URL, m.Outcome.Headers, m.DedupeKey = "relative", map[string]string{"k": "v"}, "key"
	m.Options = outbox.Options{Forward: []string{"k"}}
	id := fixture.Write(t, db, m)
	_, err := s.Replay(t.Context(), []outbox.ID{id}, "")
	if err == nil || !strings.Contains(err.Error(), "has no URL") {
		t.Errorf("without a URL: %v", err)
	}
	done, err := s.Replay(t.Context(), []outbox.ID{id}, other)
	must(t, err)
	if d := fixture.Show(t, db, done[0].New); d.State != outbox.StatePending || d.Headers["k"] != "v" || d.DedupeKey != nil ||
		fixture.CompactJSON(t, d.Options) != `{"forward":["k"]}` {
		t.Errorf("the copy is %+v", d)
	}
	for _, url := range []string{"relative", "ftp://a", "https://u:p@a"} {
		if _, err := s.Replay(t.Context(), []outbox.ID{id}, url); err == nil || !strings.Contains(err.Error(), "url: ") {
			t.Errorf("to %q: %v", url, err)
		}
	}
}

func TestAMessageWhoseResultWasNotKeptIsNotReplayed(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	for bytes, kept := range map[int]bool{outbox.ResultBytesKept: true, outbox.ResultBytesKept + 1: false} {
		m := fixture.Message("run")
		m.Outcome.Result = make([]byte, bytes)
		id := fixture.Write(t, db, m)
		for _, url := range []string{"", other} {
			_, err := s.Replay(t.Context(), []outbox.ID{id}, url)
			if (err == nil) != kept || err != nil && !strings.Contains(err.Error(), "its result was over 16777216 bytes") {
				t.Errorf("%d bytes, to %q: %v", bytes, url, err)
			}
			if kept && url == "" {
				must(t, s.Cancel(t.Context(), []outbox.ID{id}, "")) // what is due is not copied
			}
		}
	}
}

func TestOnlyWhatIsDueCanBeCancelled(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	for state, id := range oneOfEach(t, db) {
		err := s.Cancel(t.Context(), []outbox.ID{id}, "no \x00 longer wanted")
		switch state {
		case outbox.StatePending, outbox.StateRetrying, outbox.StateDelivering:
			must(t, err)
			if d := fixture.Show(t, db, id); d.State != outbox.StateCancelled || *d.DeadReason != "cancelled" ||
				*d.DeadError != "no � longer wanted" || d.NextAttemptAt != nil {
				t.Errorf("%s: it is %+v", state, d.MessageStatus)
			}
		case outbox.StateDelivered, outbox.StateDead, outbox.StateCancelled:
			if err == nil || !strings.Contains(err.Error(), "is "+string(state)+"; only what is due can be cancelled") {
				t.Errorf("%s: %v", state, err)
			}
		}
	}
	if n := fixture.Count(t, db, "due"); n != 0 {
		t.Errorf("%d are still due", n)
	}
}

func TestAnOperationIsAllOrNothingAndNamesEveryFault(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	ids := oneOfEach(t, db)
	missing := outbox.NewID()
	before := fixture.Rows(t, db)
	everything := []outbox.ID{missing}
	for _, id := range ids {
		everything = append(everything, id)
	}
	_, replay := s.Replay(t.Context(), everything, "")
	_, elsewhere := s.Replay(t.Context(), everything, other)
	for name, c := range map[string]struct {
		err   error
		named []outbox.ID
	}{
		"replay":    {replay, []outbox.ID{missing, ids[outbox.StateDelivering]}},
		"elsewhere": {elsewhere, []outbox.ID{missing, ids[outbox.StateDelivering], ids[outbox.StatePending], ids[outbox.StateRetrying]}},
		"cancel": {
			s.Cancel(t.Context(), everything, ""),
			[]outbox.ID{missing, ids[outbox.StateDelivered], ids[outbox.StateDead], ids[outbox.StateCancelled]},
		},
	} {
		if !errors.Is(c.err, operator.ErrNotFound) {
			t.Errorf("%s: %v", name, c.err)
			continue
		}
		for _, id := range everything {
			if named := strings.Contains(c.err.Error(), id.String()); named != slices.Contains(c.named, id) {
				t.Errorf("%s: %s is named: %t; in %v", name, id, named, c.err)
			}
		}
	}
	fixture.SameRows(t, before, fixture.Rows(t, db))
}

func TestAMessageNamedTwiceIsOperatedOnOnce(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	id := inState(t, db, outbox.StateDead, fixture.Message("run"))
	done, err := s.Replay(t.Context(), []outbox.ID{id, id}, other)
	must(t, err)
	if len(done) != 1 || fixture.Count(t, db, "message") != 2 {
		t.Errorf("%v, and %d messages", done, fixture.Count(t, db, "message"))
	}
	if done, err := s.Replay(t.Context(), nil, ""); err != nil || len(done) != 0 {
		t.Errorf("nothing: %v, %v", done, err)
	}
}

func TestAMissingMessageIsNotFound(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	id := outbox.NewID()
	_, err := s.Show(t.Context(), id)
	if !errors.Is(err, operator.ErrNotFound) || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("Show returns %v", err)
	}
}

func TestAnEndpointIsPausedUntilItIsResumed(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	const endpoint = "https://receiver.example"
	must(t, s.Pause(t.Context(), endpoint, "first"))
	must(t, s.Pause(t.Context(), endpoint, ""))
	list, err := s.Endpoints(t.Context(), 0)
	must(t, err)
	if len(list) != 1 || !list[0].Paused || *list[0].Reason != "paused by an operator" {
		t.Errorf("it is %+v", list)
	}
	for _, want := range []bool{true, false} {
		if resumed, err := s.Resume(t.Context(), endpoint); err != nil || resumed.Any() != want {
			t.Errorf("Resume returns %+v, %v; want %t", resumed, err, want)
		}
	}
	for _, bad := range []string{"", "relative", "https://receiver.example/hook", "https://receiver.example:443", "HTTPS://a.example"} {
		_, resume := s.Resume(t.Context(), bad)
		for what, err := range map[string]error{"Pause": s.Pause(t.Context(), bad, ""), "Resume": resume} {
			if err == nil || !strings.Contains(err.Error(), "endpoint") {
				t.Errorf("%s of %q returns %v", what, bad, err)
			}
		}
	}
}
