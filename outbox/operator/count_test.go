package operator_test

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// A count of all that was ever delivered takes longer each day.
func TestCountsAreExactToAHundredThousandAndEstimatesBeyond(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	store := fixture.Store(t, db)
	add := func(n int) {
		t.Helper()
		fixture.Execute(t, db, `INSERT INTO %s.due (message_id, endpoint, attempt) SELECT gen_random_uuid(), 'http://a.example', mod(i, 2) FROM generate_series(1, %d) i`, db.Schema, n)
	}
	add(100_000)
	states, err := store.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Estimated || s.OldestDue == nil && s.Messages > 0 || (s.State == "pending" || s.State == "retrying") && s.Messages != 50_000 {
			t.Errorf("of 100 000: %+v", s)
		}
	}
	add(100_000)
	if states, err = store.Overview(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		switch s.State {
		case "pending", "retrying":
			if !s.Estimated || s.Messages < 80_000 || s.Messages > 120_000 {
				t.Errorf("of 200 000, half in each state: %+v", s)
			}
		default:
			if s.Estimated && s.Messages != 0 {
				t.Errorf("%+v", s)
			}
		}
	}
}
