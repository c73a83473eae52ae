package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
)

// Config says where messages are written. The zero value is usable.
type Config struct {
	Schema         string // DefaultSchema when empty
	ResultBytesMax int    // a larger result makes a dead message; 0: ResultBytesLimit (1 MiB); at most ResultBytesKept
}

// Writer writes messages. It holds no connection and is safe for concurrent use. Create it with [NewWriter].
//
// Its role needs USAGE on the schema and INSERT on message, due and dead; with dedupe keys also SELECT on message.
type Writer struct {
	schema   string
	bytesMax int
	texts    map[shape]string
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
	return &Writer{schema: c.Schema, bytesMax: c.ResultBytesMax, texts: statementTexts(c.Schema)}, nil
}

// ErrTransaction is in errors about a caller's transaction in which nothing can be written: it is read-only, an earlier
// statement in it failed, or it has ended.
var ErrTransaction = errors.New("the caller's transaction cannot be written in")

// ofTransaction recognises faults of the transaction and missing tables by the SQLSTATE, which every driver has. It returns
// other errors unchanged.
func (w *Writer) ofTransaction(err error) error {
	switch state := sqlstate.Of(err); {
	case state == "25006":
		return fmt.Errorf("%w: it is read-only, or the server is: %w", ErrTransaction, err)
	case state == "25P02":
		return fmt.Errorf("%w: an earlier statement in it failed; roll it back: %w", ErrTransaction, err)
	case errors.Is(err, pgx.ErrTxClosed), errors.Is(err, sql.ErrTxDone):
		return fmt.Errorf("%w: it has ended: %w", ErrTransaction, err)
	}
	return missingTables(w.schema, err)
}

// missingTables says what to do when the schema is missing or too old.
func missingTables(schema string, err error) error {
	switch sqlstate.Of(err) {
	case "42P01", "3F000": // a table, the schema
		return fmt.Errorf("schema %s lacks tables of the outbox; run 'outbox-worker migrate up', or name the schema that was migrated: %w", schema, err)
	case "42703": // a column
		return fmt.Errorf("schema %s has older tables than this message needs; run 'outbox-worker migrate up': %w", schema, err)
	case "42501":
		return fmt.Errorf("the session's role has no right to this in schema %s; grant it (docs/writing.md, Rights): %w", schema, err)
	}
	return err
}

// Insert writes the message in the caller's transaction and returns its id: due, or dead with the reason "invalid" when
// its URL, result or headers can never be delivered. When the dedupe key was written before, it writes nothing and
// returns the zero ID. [Writer.Write] does the same and says which of these it was.
//
// An error is one of the caller (it wraps [ErrInvalidOutcome] or [ErrTransaction], and nothing was written) or of the database.
// After either, roll the transaction back: what cannot be recorded must not be acknowledged.
//
// No setting of the session changes what is written. Where a driver cannot write text safely, it returns an error itself (the
// simple protocol of pgx needs standard_conforming_strings and client_encoding UTF8).
func (w *Writer) Insert(ctx context.Context, tx Tx, m Message) (ID, error) {
	st, err := w.statement(m)
	if err != nil {
		return ID{}, err
	}
	written, err := w.run(ctx, tx, st)
	if err != nil || !written {
		return ID{}, err
	}
	return st.id, nil
}

// Queue adds the same statement to a batch that the caller sends in a transaction, next to the acknowledgement, without a
// further round trip. The batch has one more result. The id is that of the message if it is written.
func (w *Writer) Queue(batch *pgx.Batch, m Message) (ID, error) {
	if batch == nil {
		return ID{}, errors.New("insert message: the batch is nil")
	}
	st, err := w.statement(m)
	if err != nil {
		return ID{}, err
	}
	batch.Queue(w.texts[st.shape], st.args...)
	return st.id, nil
}

// statement is a message in the form of the statement.
type statement struct {
	shape  shape
	args   []any
	id     ID
	reason string // why it is dead at once
	key    any    // the dedupe key as the row holds it, or nil
}

// run executes a statement and reports whether it wrote a row of due or dead.
func (w *Writer) run(ctx context.Context, tx Tx, st statement) (written bool, err error) {
	if err := usable(tx); err != nil {
		return false, fmt.Errorf("insert message: %w", err)
	}
	tag, err := tx.Exec(ctx, w.texts[st.shape], st.args...)
	if err != nil {
		return false, fmt.Errorf("insert message: %w", w.ofTransaction(err))
	}
	return tag.RowsAffected() > 0, nil
}

// errNoWriter is the error of a Writer that NewWriter did not make.
var errNoWriter = errors.New("insert message: the Writer is nil or zero; make it with outbox.NewWriter")

func (w *Writer) statement(m Message) (st statement, err error) {
	if w == nil || w.texts == nil {
		return st, errNoWriter
	}
	if m.ID == (ID{}) {
		m.ID = NewID()
	}
	if err := m.check(); err != nil {
		return st, fmt.Errorf("insert message: %w", err)
	}
	r := newRow(m, w.bytesMax)
	st = statement{
		shape: shape{tenant: m.Tenant != "", once: r.key != nil, dead: r.dead()}, args: r.args, id: m.ID, reason: r.reason(), key: r.key,
	}
	text := textArgs
	if st.shape.tenant {
		st.args = append(st.args, m.Tenant)
	}
	switch {
	case st.shape.dead:
		text = append(slices.Clone(text), len(st.args))
		st.args = append(st.args, st.reason)
	case m.Options.Delay > 0:
		st.shape.later = true
		st.args = append(st.args, m.Options.Delay.Milliseconds())
	}
	st.shape.encoded = encodeText(st.args, text)
	return st, nil
}

// encodeText turns the text arguments into bytes when one of them is not ASCII, and reports whether it did.
func encodeText(args []any, text []int) bool {
	if !slices.ContainsFunc(text, func(i int) bool {
		value, ok := args[i].(string)
		return ok && !cleantext.IsASCII(value)
	}) {
		return false
	}
	for _, i := range text {
		if value, ok := args[i].(string); ok {
			args[i] = []byte(value)
		}
	}
	return true
}
