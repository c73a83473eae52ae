package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Config says where messages are written. The zero value is usable.
type Config struct {
	Schema         string // DefaultSchema when empty
	ResultBytesMax int    // a larger result makes a dead message; 0: ResultBytesLimit (1 MiB); at most ResultBytesKept
}

// Writer writes messages. It holds no connection and is safe for concurrent use.
type Writer struct {
	schema   string
	bytesMax int
	plain    statements // for text that is ASCII, which every client_encoding writes alike
	encoded  statements // for other text
}

// statements are the ways in which a message is written.
type statements struct {
	due, dueOnce         string // the message is due; the same, once per dedupe key
	invalid, invalidOnce string // the message is dead at once
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
	return &Writer{
		schema:   c.Schema,
		bytesMax: c.ResultBytesMax,
		plain:    statementsIn(c.Schema, `$0::pg_catalog.text`),
		encoded:  statementsIn(c.Schema, `pg_catalog.convert_from($0::pg_catalog.bytea, 'UTF8')`),
	}, nil
}

// statementsIn writes the statements for a schema. In text, $0 stands for an argument that any text may be in.
func statementsIn(schema, text string) statements {
	in := func(parts ...string) string {
		sql := strings.ReplaceAll(strings.Join(parts, ""), "outbox.", schema+".")
		return anyText.ReplaceAllStringFunc(sql, func(arg string) string {
			return strings.ReplaceAll(text, "$0", strings.TrimSuffix(arg, "::any_text"))
		})
	}
	return statements{
		due:         in(insertMessage, returningMessage, intoDue),
		dueOnce:     in(insertMessage, onceOnly, returningMessage, intoDue),
		invalid:     in(insertMessage, returningMessage, intoDead),
		invalidOnce: in(insertMessage, onceOnly, returningMessage, intoDead),
	}
}

var anyText = regexp.MustCompile(`\$\d+::any_text`)

// The message and its due row are one statement: one round trip, or a place in the caller's pgx.Batch. Every argument
// is cast from text or bytea, so that drivers that know no uuid or jsonb, and the simple protocol, write the same.
//
// The session is the caller's, and none of its settings is changed. So every type and function is named with its schema:
// no search_path leads elsewhere. And text that is not ASCII goes as bytes (any_text), JSON with such characters escaped:
// under a client_encoding that is not UTF8, the server would take their bytes for other characters.
const (
	insertMessage = `WITH m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, dedupe_key)
VALUES ($1::pg_catalog.text::pg_catalog.uuid, $2::any_text, $3::pg_catalog.text, $4::pg_catalog.bytea, $5::any_text,
        $6::pg_catalog.text::pg_catalog.jsonb, $7::pg_catalog.int8, $8::any_text, $9::any_text,
        $10::pg_catalog.text::pg_catalog.jsonb, $11::any_text)`
	onceOnly         = ` ON CONFLICT (dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING`
	returningMessage = ` RETURNING id, endpoint)`
	intoDue          = ` INSERT INTO outbox.due (message_id, endpoint) SELECT id, endpoint FROM m`
	intoDead         = ` INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT id, endpoint, 'invalid', $12::any_text FROM m`
)

// textArgs are the indexes of the arguments that any_text stands for.
var textArgs = []int{1, 4, 7, 8, 10, 11}

// ErrTransaction is in errors about a transaction of the caller's that nothing can be written in: a read-only one, one in
// which an earlier statement failed, one that has ended.
var ErrTransaction = errors.New("the caller's transaction cannot be written in")

// ofTransaction names the transaction's faults and missing tables, by SQLSTATE as every driver gives it. Others are
// returned as they are.
func (w *Writer) ofTransaction(err error) error {
	var coded interface{ SQLState() string }
	state := ""
	if errors.As(err, &coded) {
		state = coded.SQLState()
	}
	switch {
	case state == "25006":
		return fmt.Errorf("%w: it is read-only, or the server is: %w", ErrTransaction, err)
	case state == "25P02":
		return fmt.Errorf("%w: an earlier statement in it failed; roll it back: %w", ErrTransaction, err)
	case state == "42P01", state == "3F000": // a table, the schema
		return fmt.Errorf("schema %s lacks tables of the outbox; run 'outbox-worker migrate up', or name the schema that was migrated: %w", w.schema, err)
	case errors.Is(err, pgx.ErrTxClosed), errors.Is(err, sql.ErrTxDone):
		return fmt.Errorf("%w: it has ended: %w", ErrTransaction, err)
	}
	return err
}

// Insert writes the message in the caller's transaction and returns its id: due, or dead with the reason "invalid" when
// its URL, result or headers can never be delivered. When the dedupe key was written before, it writes nothing and
// returns the zero ID.
//
// An error is the caller's (it wraps [ErrInvalidOutcome] or [ErrTransaction], and nothing was written) or the database's;
// after either the transaction should be rolled back, for what cannot be recorded must not be acknowledged.
//
// No setting of the session changes what is written. One under which a driver cannot write text safely (pgx's simple
// protocol wants standard_conforming_strings and client_encoding UTF8) is that driver's error.
func (w *Writer) Insert(ctx context.Context, tx Tx, m Message) (ID, error) {
	id, sql, args, err := w.statement(m)
	if err != nil {
		return ID{}, err
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return ID{}, fmt.Errorf("insert message: %w", w.ofTransaction(err))
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
	args = r.args
	if r.dead() {
		args = append(args, r.reason())
	}
	st := w.plain
	if encodeText(args) {
		st = w.encoded
	}
	switch {
	case r.dead() && r.keyed:
		return m.ID, st.invalidOnce, args, nil
	case r.dead():
		return m.ID, st.invalid, args, nil
	case r.keyed:
		return m.ID, st.dueOnce, args, nil
	}
	return m.ID, st.due, args, nil
}

// encodeText turns the text arguments into bytes when one of them is not ASCII, and reports whether it did.
func encodeText(args []any) bool {
	if !slices.ContainsFunc(textArgs, func(i int) bool {
		if i >= len(args) {
			return false
		}
		text, ok := args[i].(string)
		return ok && !isASCII(text)
	}) {
		return false
	}
	for _, i := range textArgs {
		if i >= len(args) {
			break
		}
		if text, ok := args[i].(string); ok {
			args[i] = []byte(text)
		}
	}
	return true
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
