package operator_test

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestAListThatLooksAtSoManyFindsTheSameAsOneThatLooksAtAll(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	oneOfEach(t, db)
	for range 2 {
		fixture.Write(t, db, of("acme"))
		inState(t, db, outbox.StateDead, of("acme"))
		inState(t, db, outbox.StateDelivered, of("acme"))
	}
	filters := []operator.Filter{{}, {Endpoint: receiver}, {RunID: "dead"}, {NewerThan: time.Minute}, {OlderThan: time.Minute}, {OlderThan: time.Minute, States: outbox.States[:3]}}
	for _, state := range outbox.States {
		filters = append(filters, operator.Filter{States: []outbox.State{state}}, operator.Filter{States: []outbox.State{state}, Endpoint: receiver})
	}
	for _, store := range []*operator.Store{fixture.Store(t, db), ofTenant(t, db, "acme")} {
		for _, f := range filters {
			want, err := store.List(t.Context(), f)
			must(t, err)
			f.Look = 1000
			page, err := store.ListPage(t.Context(), f)
			must(t, err)
			if len(page.Messages) != len(want) || page.Beyond {
				t.Errorf("%+v: %d messages, want %d; there are more beyond: %v", f, len(page.Messages), len(want), page.Beyond)
				continue
			}
			for i := range want {
				if page.Messages[i].ID != want[i].ID {
					t.Errorf("%+v: message %d is another one", f, i)
				}
			}
		}
	}
}

func TestAListSaysHowFarItLooked(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	first := fixture.Write(t, db, of("acme"))
	second := fixture.Write(t, db, fixture.Message("second"))
	fixture.Write(t, db, fixture.Message("third"))
	acme := ofTenant(t, db, "acme")
	page, err := acme.ListPage(t.Context(), operator.Filter{Look: 1})
	if err != nil || len(page.Messages) != 0 || !page.Beyond || !page.Since.Equal(second.Time()) {
		t.Errorf("of three messages, the newest was looked at: %+v, %v", page, err)
	}
	page, err = acme.ListPage(t.Context(), operator.Filter{Look: 3})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != first || page.Beyond {
		t.Errorf("all three were looked at: %+v, %v", page, err)
	}
	page, err = fixture.Store(t, db).ListPage(t.Context(), operator.Filter{Look: 2, Limit: 2})
	if err != nil || len(page.Messages) != 2 || page.Beyond {
		t.Errorf("as many as were asked for are there: %+v, %v", page, err)
	}
}
