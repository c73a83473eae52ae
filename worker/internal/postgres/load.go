package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// BodyMax is the largest body that a claim returns, in bytes. The caller loads a larger one separately, when it has
// room for it: so the worker's memory is bounded, whatever waits in the outbox.
const BodyMax = 64 << 10

// Loader reads bodies that are larger than BodyMax.
type Loader struct {
	db  *DB
	sql string
}

const loadSQL = `SELECT ` + body + ` FROM outbox.message m WHERE m.id = $1::text::uuid`

// NewLoader returns a loader of a schema.
func NewLoader(db *DB, schema string) *Loader {
	return &Loader{db: db, sql: sqlschema.In(loadSQL, schema)}
}

// Load returns the body of a message. Only ctx bounds its time. For a message that was pruned meanwhile the error is
// pgx.ErrNoRows.
func (l *Loader) Load(ctx context.Context, id outbox.ID) (body []byte, err error) {
	err = l.db.transact(ctx, func(tx pgx.Tx) error {
		// A connection keeps the buffer of the last answer that it read, twice as large as the body, until it reads again: here
		// it then reads the answer to the commit.
		return tx.QueryRow(ctx, l.sql, id.String()).Scan(&body)
	})
	if err != nil {
		return nil, fmt.Errorf("load the body of %s: %w", id, err)
	}
	return body, nil
}
