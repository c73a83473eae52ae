package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

// Receipt says what became of a message that was given to a [Writer], if the transaction commits.
type Receipt struct {
	Fate   Fate
	ID     ID     // of the message that is in the outbox: this one or, of a duplicate, the one that was there. Zero when unknown
	URL    string // as it was given
	Reason string // why it is dead, or has no destination; "" otherwise
}

// Fate is what became of a message when it was written.
type Fate string

// The fates.
const (
	FateWritten       Fate = "written"        // it is due
	FateDuplicate     Fate = "duplicate"      // its dedupe key was written before; nothing was written
	FateDead          Fate = "dead"           // it was written, and is dead as "invalid": it can never be delivered as it is
	FateNoDestination Fate = "no destination" // of hooks: the run names no URL; nothing was written
)

// String returns what a log should say.
func (r Receipt) String() string {
	switch {
	case r.Fate == FateDuplicate && r.ID != (ID{}):
		return fmt.Sprintf("duplicate of %s", r.ID)
	case r.Reason != "":
		return fmt.Sprintf("%s: %s", r.Fate, r.Reason)
	}
	return string(r.Fate)
}

// Write does what [Writer.Insert] does and returns a receipt. Only for a duplicate it makes one more query, for the message
// that was written first. That ID is zero where the transaction has no QueryRow, or when retention has pruned the message.
func (w *Writer) Write(ctx context.Context, tx Tx, m Message) (Receipt, error) {
	st, err := w.statement(m)
	if err != nil {
		return Receipt{}, err
	}
	written, err := w.run(ctx, tx, st)
	if err != nil {
		return Receipt{}, err
	}
	r := Receipt{Fate: FateWritten, ID: st.id, URL: m.URL}
	switch {
	case !written:
		return w.duplicate(ctx, tx, r, st.key)
	case st.shape.dead:
		r.Fate, r.Reason = FateDead, st.reason
	}
	return r, nil
}

// duplicate is the receipt of a message whose key was there.
func (w *Writer) duplicate(ctx context.Context, tx Tx, r Receipt, key any) (Receipt, error) {
	r.Fate, r.ID = FateDuplicate, ID{}
	var id string
	found, err := w.ask(ctx, tx, &id, `SELECT id::pg_catalog.text FROM outbox.message
WHERE dedupe_key OPERATOR(pg_catalog.=) pg_catalog.convert_from($1::pg_catalog.bytea, 'UTF8')`, keyBytes(key))
	if err == nil && found {
		r.ID, err = ParseID(id)
	}
	return r, err
}

func keyBytes(key any) []byte {
	switch k := key.(type) {
	case string:
		return []byte(k)
	case []byte:
		return k
	}
	return nil
}

// ask reads one value in the transaction of the caller. It reports whether the transaction can query, and there was a value.
func (w *Writer) ask(ctx context.Context, tx Tx, value any, query string, args ...any) (found bool, err error) {
	asks, ok := tx.(interface {
		QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	})
	if !ok {
		return false, nil
	}
	switch err := asks.QueryRow(ctx, sqlschema.In(query, w.schema), args...).Scan(value); {
	case err == nil:
		return true, nil
	case errors.Is(err, sql.ErrNoRows), errors.Is(err, pgx.ErrNoRows), errors.Is(err, errCannotAsk):
		return false, nil
	default:
		return false, fmt.Errorf("insert message: of what it is a duplicate: %w", w.ofTransaction(err))
	}
}
