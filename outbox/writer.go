package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Config says where messages are written. The zero value is usable.
type Config struct {
	Schema         string // DefaultSchema when empty
	ResultBytesMax int    // a larger result makes a dead message; 0: ResultBytesLimit (1 MiB); at most ResultBytesKept
}

// Writer writes messages. It holds no connection and is safe for concurrent use.
type Writer struct {
	bytesMax             int
	due, dueOnce         string // statements: the message is due; the same, once per dedupe key
	invalid, invalidOnce string // statements: the message is dead at once
}

// NewWriter reports every fault of the configuration at once, and prepares the statements' text. It touches no database.
func NewWriter(c Config) (*Writer, error) {
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	if c.ResultBytesMax == 0 {
		c.ResultBytesMax = ResultBytesLimit
	}
	err := CheckSchema(c.Schema)
	if c.ResultBytesMax < 0 || c.ResultBytesMax > ResultBytesKept {
		err = errors.Join(err, fmt.Errorf("ResultBytesMax is %d; want 1 to %d, or 0 for %d",
			c.ResultBytesMax, ResultBytesKept, ResultBytesLimit))
	}
	if err != nil {
		return nil, err
	}
	in := func(sql string) string { return strings.ReplaceAll(sql, "outbox.", c.Schema+".") }
	return &Writer{
		bytesMax:    c.ResultBytesMax,
		due:         in(insertMessage + returningMessage + intoDue),
		dueOnce:     in(insertMessage + onceOnly + returningMessage + intoDue),
		invalid:     in(insertMessage + returningMessage + intoDead),
		invalidOnce: in(insertMessage + onceOnly + returningMessage + intoDead),
	}, nil
}

// The message and its due row are one statement: one round trip, or a place in the caller's pgx.Batch. Every argument
// is cast from text or bytea, so that drivers that know no uuid or jsonb, and the simple protocol, write the same.
const (
	insertMessage = `WITH m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, dedupe_key)
VALUES ($1::text::uuid, $2::text, $3::text, $4::bytea, $5::text, $6::text::jsonb, $7::bigint, $8::text, $9::text,
        $10::text::jsonb, $11::text)`
	onceOnly         = ` ON CONFLICT (dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING`
	returningMessage = ` RETURNING id, endpoint)`
	intoDue          = ` INSERT INTO outbox.due (message_id, endpoint) SELECT id, endpoint FROM m`
	intoDead         = ` INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT id, endpoint, 'invalid', $12::text FROM m`
)

// Insert writes the message in the caller's transaction and returns its id: due, or dead with the reason "invalid" when
// its URL, result or headers can never be delivered. When the dedupe key was written before, it writes nothing and
// returns the zero ID.
//
// An error is the caller's (it wraps [ErrInvalidOutcome], and nothing was written) or the database's; after either the
// transaction should be rolled back, for what cannot be recorded must not be acknowledged.
func (w *Writer) Insert(ctx context.Context, tx Tx, m Message) (ID, error) {
	id, sql, args, err := w.statement(m)
	if err != nil {
		return ID{}, err
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return ID{}, fmt.Errorf("insert message: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ID{}, nil
	}
	return id, nil
}

// Queue adds the same statement to a batch that the caller sends in a transaction, next to the acknowledgement: no
// round trip of its own. The batch holds one more result. The id is that of the message if it is written.
func (w *Writer) Queue(batch *pgx.Batch, m Message) (ID, error) {
	id, sql, args, err := w.statement(m)
	if err != nil {
		return ID{}, err
	}
	batch.Queue(sql, args...)
	return id, nil
}

func (w *Writer) statement(m Message) (id ID, sql string, args []any, err error) {
	if m.ID == (ID{}) {
		m.ID = NewID()
	}
	r, err := newRow(m, w.bytesMax)
	if err != nil {
		return ID{}, "", nil, fmt.Errorf("insert message: %w", err)
	}
	switch {
	case r.dead() && r.keyed:
		return m.ID, w.invalidOnce, append(r.args, r.reason()), nil
	case r.dead():
		return m.ID, w.invalid, append(r.args, r.reason()), nil
	case r.keyed:
		return m.ID, w.dueOnce, r.args, nil
	}
	return m.ID, w.due, r.args, nil
}
