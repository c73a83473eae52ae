package outbox_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// entTx has what a transaction of ent has: it returns rows, and no single row.
type entTx struct{ tx *sql.Tx }

func (e entTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return e.tx.ExecContext(ctx, query, args...)
}

func (e entTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return e.tx.QueryContext(ctx, query, args...)
}

// asker is what Writer.Write needs of a transaction besides Tx.
type asker interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// While rows are open, lib/pq sends nothing else on their connection.
func TestAfterARowOfATransactionIsReadItCanBeUsed(t *testing.T) {
	t.Parallel()
	conn := openPQ(t, testdb.New(t))
	defer func() { must(t, conn.Close()) }()
	for what, query := range map[string]string{
		"the first of several rows":           "SELECT 7 FROM generate_series(1, 3)",
		"one that does not fit":               "SELECT 'seven' FROM generate_series(1, 3)",
		"none, because there is no such row":  "SELECT 7 WHERE false",
		"one that is NULL, which no int32 is": "SELECT NULL FROM generate_series(1, 3)",
	} {
		t.Run(what, func(t *testing.T) {
			begun, err := conn.BeginTx(t.Context(), nil)
			must(t, err)
			defer func() { _ = begun.Rollback() }()
			tx := outbox.ExecTx(entTx{begun})
			var n int32
			err = tx.(asker).QueryRow(t.Context(), query).Scan(&n)
			if fits := n == 7; fits != (err == nil) || fits != (what == "the first of several rows") {
				t.Errorf("it read %d, %v", n, err)
			}
			if _, err := tx.Exec(t.Context(), "SELECT 1"); err != nil {
				t.Errorf("the next statement returns %v, want no error", err)
			}
		})
	}
}
