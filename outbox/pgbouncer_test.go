package outbox_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func TestPgBouncersTransactionPoolingWritesTheSameRows(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	url := testdb.PgBouncer(t, reference)
	fixture.WriteAll(t, reference, fixture.Samples())
	want := fixture.Rows(t, reference)

	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		db := fixture.Through(t, testdb.NewEmpty(t), url, mode)
		must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
		must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
		fixture.WriteAll(t, db, fixture.Samples())
		fixture.SameRows(t, want, fixture.Rows(t, db))
		waker, err := outbox.NewWaker(db.Pool, db.Schema)
		must(t, err)
		waker.Wake()
		must(t, waker.Close(t.Context()))
	}
	db := testdb.NewAt(t, reference.URL)
	pq := openPQ(t, &testdb.DB{URL: url})
	defer func() { must(t, pq.Close()) }()
	writeSQL(t, db, pq, fixture.Samples())
	fixture.SameRows(t, want, fixture.Rows(t, db))
}
