package operator_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// operate does with the samples what operators do.
func operate(t *testing.T, db *testdb.DB) {
	t.Helper()
	fixture.WriteAll(t, db, fixture.Samples())
	s := fixture.Store(t, db)
	id := fixture.Samples()[0].ID
	must(t, s.Cancel(t.Context(), []outbox.ID{id}, "no longer wanted"))
	_, err := s.Replay(t.Context(), []outbox.ID{id}, "https://other.example")
	must(t, err)
	list, err := s.List(t.Context(), operator.Filter{
		States: []outbox.State{outbox.StateCancelled, outbox.StateDead}, NewerThan: time.Hour,
	})
	must(t, err)
	if len(list) != 3 {
		t.Errorf("%d messages are listed, want 3: %v", len(list), list)
	}
	if d := fixture.Show(t, db, id); d.State != outbox.StateCancelled {
		t.Errorf("it is %s", d.State)
	}
	_, err = s.Endpoints(t.Context(), 10)
	must(t, err)
}

// The operators' statements pass through poolers and proxies as the writer's do.
func TestTheStoreAnswersInEveryProtocol(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		db := testdb.New(t)
		db = fixture.Through(t, db, db.URL, mode)
		operate(t, db)
		oneOfEach(t, db)
	}
}

func TestTheStoreAnswersThroughPgBouncersTransactionPooling(t *testing.T) {
	t.Parallel()
	first := testdb.New(t)
	url := testdb.PgBouncer(t, first)
	operate(t, fixture.Through(t, first, url, pgx.QueryExecModeExec))
	operate(t, fixture.Through(t, testdb.NewAt(t, first.URL), url, pgx.QueryExecModeSimpleProtocol))
}
