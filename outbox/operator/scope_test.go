package operator_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestAStoreOfATenantSeesAndChangesNothingOfOthers(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	mine, others, nobodys := fixture.Write(t, db, of("acme")), fixture.Write(t, db, of("other")), fixture.Write(t, db, fixture.Message("run"))
	s := ofTenant(t, db, "acme")
	if list, err := s.List(t.Context(), operator.Filter{}); err != nil || len(list) != 1 || list[0].ID != mine || *list[0].Tenant != "acme" {
		t.Errorf("it lists %+v, %v", list, err)
	}
	for _, id := range []outbox.ID{others, nobodys} {
		_, show := s.Show(t.Context(), id)
		_, replay := s.Replay(t.Context(), []outbox.ID{mine, id}, "")
		for what, err := range map[string]error{"show": show, "replay": replay, "cancel": s.Cancel(t.Context(), []outbox.ID{mine, id}, "")} {
			if !errors.Is(err, operator.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, err := s.Show(t.Context(), mine); err != nil {
		t.Error(err)
	}
	list, err := s.Endpoints(t.Context(), 0)
	if err != nil || len(list) != 1 || *list[0].Tenant != "acme" || list[0].Waiting != 1 {
		t.Errorf("its endpoints are %+v, %v", list, err)
	}
	counts, err := s.Overview(t.Context())
	if err != nil || len(counts) != 5 || counts[0].State != outbox.StatePending || counts[0].Messages != 1 || counts[0].OldestDue == nil {
		t.Errorf("its overview is %+v, %v", counts, err)
	}
	if _, err := s.OfTenant("other"); err == nil {
		t.Error("it becomes another tenant's")
	}
	if _, err := fixture.Store(t, db).OfTenant("no tenant"); err == nil {
		t.Error("a name that no tenant has is accepted")
	}
}

func TestAReplayPutsAMessageBackIntoItsTenantsLane(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	laneOf := func(id outbox.ID) string {
		return fixture.One[string](t, db.Pool, "SELECT endpoint FROM "+db.Schema+".due WHERE message_id = $1", id)
	}
	dead := inState(t, db, outbox.StateDead, of("acme"))
	_, err := s.Replay(t.Context(), []outbox.ID{dead}, "")
	must(t, err)
	if got := laneOf(dead); got != receiver+" acme" {
		t.Errorf("it waits in %q", got)
	}
	done, err := s.Replay(t.Context(), []outbox.ID{inState(t, db, outbox.StateDelivered, of("acme"))}, other)
	must(t, err)
	copied := fixture.Show(t, db, done[0].New)
	if got := laneOf(copied.ID); got != "https://other.example acme" || copied.Tenant == nil || *copied.Tenant != "acme" {
		t.Errorf("the copy waits in %q, of tenant %v", got, copied.Tenant)
	}
}

func TestATenantIsPausedLimitedAndResumedByItself(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s, acme := fixture.Store(t, db), ofTenant(t, db, "acme")
	must(t, acme.Pause(t.Context(), receiver, "acme asked"))
	must(t, acme.Limit(t.Context(), receiver, operator.Limits{MaxInFlight: 2}, ""))
	if got := fixture.One[string](t, db.Pool, "SELECT string_agg(endpoint || ' ' || paused || ' ' || max_in_flight, ', ') FROM "+db.Schema+".endpoint"); got != receiver+" acme true 2" {
		t.Fatalf("the rows are %s", got)
	}
	done, err := s.Resume(t.Context(), receiver)
	if err != nil || done != (operator.Resumed{StillPaused: 1}) {
		t.Errorf("resuming the endpoint: %+v, %v", done, err)
	}
	done, err = acme.Resume(t.Context(), receiver)
	if err != nil || done != (operator.Resumed{Tenants: 1}) {
		t.Errorf("resuming the tenant: %+v, %v", done, err)
	}
}

func TestAResumeOfAnEndpointResumesWhatFailsBelowIt(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s, acme := fixture.Store(t, db), ofTenant(t, db, "acme")
	url := fixture.Message("").URL
	failing := func() {
		fixture.Execute(t, db, "DELETE FROM %s.endpoint", db.Schema)
		for _, key := range []string{
			receiver, lane.Of(receiver, "acme"), lane.Of(receiver, "other"), lane.OfURL(receiver, url), lane.OfURL(lane.Of(receiver, "acme"), url),
			receiver + "!", "https://receiver.exampl", lane.Of(receiver, "acme2"),
		} {
			remembered(t, db, key, ", failures, open_until", ", 10, now() + interval '1 h'")
		}
		remembered(t, db, lane.Of(receiver, "fine"), ", max_in_flight", ", 1")
	}
	left := func() int {
		return fixture.One[int](t, db.Pool, "SELECT count(*) FROM "+db.Schema+".endpoint WHERE open_until IS NOT NULL")
	}
	failing()
	if done, err := s.Resume(t.Context(), receiver); err != nil || done != (operator.Resumed{Endpoint: true, Tenants: 3, URLs: 2}) || left() != 2 {
		t.Errorf("the endpoint: %+v, %d are left, %v", done, left(), err)
	}
	failing()
	if done, err := acme.Resume(t.Context(), receiver); err != nil || done != (operator.Resumed{Tenants: 1, URLs: 1}) || left() != 6 {
		t.Errorf("the tenant: %+v, %d are left, %v", done, left(), err)
	}
	failing()
	must(t, acme.PauseURL(t.Context(), url, "no more"))
	if done, err := acme.ResumeURL(t.Context(), strings.Replace(url, "https://receiver", "HTTPS://Receiver", 1)); err != nil || done != (operator.Resumed{URLs: 1}) || left() != 7 {
		t.Errorf("the URL: %+v, %d are left, %v", done, left(), err)
	}
	if err := s.PauseURL(t.Context(), receiver+"/another", ""); !errors.Is(err, operator.ErrNotAside) {
		t.Errorf("a URL that is not set aside: %v", err)
	}
}

func TestAllThatIsDueOfATenantIsCancelled(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	inState(t, db, outbox.StateDelivering, of("acme"))
	inState(t, db, outbox.StateRetrying, of("acme"))
	elsewhere := of("acme")
	elsewhere.URL = other
	fixture.Write(t, db, elsewhere)
	kept := []outbox.ID{fixture.Write(t, db, fixture.Message("run")), fixture.Write(t, db, of("acme2"))}
	acme := ofTenant(t, db, "acme")
	if n, err := acme.CancelDue(t.Context(), "https://other.example", "gone"); err != nil || n != 1 {
		t.Errorf("at one endpoint: %d, %v", n, err)
	}
	if n, err := acme.CancelDue(t.Context(), "", ""); err != nil || n != 2 {
		t.Errorf("in all: %d, %v", n, err)
	}
	for _, id := range kept {
		if d := fixture.Show(t, db, id); d.State != outbox.StatePending {
			t.Errorf("%s is %s", d.RunID, d.State)
		}
	}
	if got := fixture.One[string](t, db.Pool, "SELECT string_agg(DISTINCT reason || ' ' || endpoint, ', ') FROM "+db.Schema+".dead"); got != "cancelled https://other.example, cancelled "+receiver {
		t.Errorf("dead holds %s", got)
	}
	if _, err := fixture.Store(t, db).CancelDue(t.Context(), "", ""); err == nil {
		t.Error("all that is due of everybody is cancelled")
	}
}

func TestTheTenantsAreCountedWithWhatHoldsThemBack(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	fixture.Write(t, db, of("acme"))
	inState(t, db, outbox.StateRetrying, of("acme"))
	inState(t, db, outbox.StateDead, of("dead"))
	fixture.Write(t, db, fixture.Message("run"))
	must(t, ofTenant(t, db, "acme").Pause(t.Context(), receiver, ""))
	list, unlisted, err := fixture.Store(t, db).Tenants(t.Context(), 2)
	if err != nil || len(list) != 2 || unlisted != 1 {
		t.Fatalf("%+v, %d, %v", list, unlisted, err)
	}
	if a := list[0]; a.Tenant != "acme" || a.Waiting != 2 || a.Retrying != 1 || a.Held != 2 || a.Dead != 0 || a.OldestDue == nil {
		t.Errorf("%+v", a)
	}
	if n := list[1]; n.Tenant != "" || n.Waiting != 1 || n.Held != 0 {
		t.Errorf("%+v", n)
	}
}

func TestAnEndpointIsKnownIfAnythingGoesThere(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	inState(t, db, outbox.StateDelivered, of("acme"))
	for tenant, endpoints := range map[string]map[string]bool{
		"":      {receiver: true, "https://receiver.exampl": false},
		"acme":  {receiver: true},
		"other": {receiver: false},
	} {
		s := fixture.Store(t, db)
		if tenant != "" {
			s = ofTenant(t, db, tenant)
		}
		for endpoint, want := range endpoints {
			if known, err := s.Known(t.Context(), endpoint); err != nil || known != want {
				t.Errorf("%s of %q is known: %t, %v", endpoint, tenant, known, err)
			}
		}
	}
}
