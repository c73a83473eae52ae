package outbox_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestPgBouncersTransactionPoolingWritesTheSameRows(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	url := testdb.PgBouncer(t, reference)
	writePgx(t, reference, samples())
	want := rows(t, reference)

	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		db := throughPgBouncer(t, testdb.NewEmpty(t), url, mode)
		must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
		must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
		writePgx(t, db, samples())
		mustBeSame(t, want, rows(t, db))
		operate(t, db)
	}
	db := testdb.New(t)
	pq := openPQ(t, &testdb.DB{URL: url})
	defer func() { must(t, pq.Close()) }()
	writeSQL(t, db, pq, samples())
	mustBeSame(t, want, rows(t, db))
}

// operate does with the messages what operators do, so that the pooler gets the store's statements too.
func operate(t *testing.T, db *testdb.DB) {
	t.Helper()
	s := newStore(t, db)
	waker, err := outbox.NewWaker(db.Pool, db.Schema)
	must(t, err)
	waker.Wake()
	must(t, waker.Close(t.Context()))
	id := samples()[0].ID
	must(t, s.Cancel(t.Context(), []outbox.ID{id}, "no longer wanted"))
	_, err = s.Replay(t.Context(), []outbox.ID{id}, "https://other.example")
	must(t, err)
	list, err := s.List(t.Context(), operator.Filter{
		States: []outbox.State{outbox.StateCancelled, outbox.StateDead}, NewerThan: time.Hour,
	})
	must(t, err)
	if len(list) != 3 {
		t.Errorf("%d messages are listed, want 3: %v", len(list), list)
	}
	if d := show(t, db, id); d.State != outbox.StateCancelled {
		t.Errorf("it is %s", d.State)
	}
	_, err = s.Endpoints(t.Context(), 10)
	must(t, err)
}

func throughPgBouncer(t *testing.T, db *testdb.DB, url string, mode pgx.QueryExecMode) *testdb.DB {
	t.Helper()
	through := &testdb.DB{Schema: db.Schema, URL: url}
	through.Pool = through.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
	return through
}
