package outbox_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// executor is a transaction that can only execute.
type executor struct{ outbox.Tx }

// pruned is a transaction in which retention has deleted all messages by the time it asks.
type pruned struct {
	pgx.Tx
	schema string
}

func (p pruned) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	if _, err := p.Exec(ctx, "DELETE FROM "+p.schema+".message"); err != nil {
		return failed{err}
	}
	return p.Tx.QueryRow(ctx, query, args...)
}

type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func TestADuplicateWhoseMessageCannotBeFoundHasAReceiptWithoutAnID(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w := fixture.Writer(t, db)
	m := outbox.Message{Outcome: testdb.Outcome("run", ""), URL: "https://receiver.test", DedupeKey: "key"}
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		first, err := w.Write(t.Context(), executor{tx}, m)
		must(t, err)
		for _, c := range []struct {
			what string
			tx   outbox.Tx
			want outbox.ID
		}{
			{"the transaction can only execute", executor{tx}, outbox.ID{}},
			{"it can ask", tx, first.ID},
			{"the message is gone", pruned{tx, db.Schema}, outbox.ID{}},
		} {
			if got, err := w.Write(t.Context(), c.tx, m); err != nil || got.Fate != outbox.FateDuplicate || got.ID != c.want {
				t.Errorf("%s: the receipt is %v, %v; want a duplicate with the id %v", c.what, got, err, c.want)
			}
		}
		return nil
	}))
}
