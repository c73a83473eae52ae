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
	schema     string
	bytesMax   int
	ofNoTenant encodings
	ofATenant  encodings // these need the column tenant, which tables of version 5 lack
}

// encodings are the statements by what the text of a message is made of.
type encodings struct {
	plain   statements // for text that is ASCII, which every client_encoding writes alike
	encoded statements // for other text
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
		schema:     c.Schema,
		bytesMax:   c.ResultBytesMax,
		ofNoTenant: encodingsOf(c.Schema, noTenant),
		ofATenant:  encodingsOf(c.Schema, aTenant),
	}, nil
}

func encodingsOf(schema string, t tenantSQL) encodings {
	return encodings{
		plain:   statementsIn(schema, `$0::pg_catalog.text`, t),
		encoded: statementsIn(schema, `pg_catalog.convert_from($0::pg_catalog.bytea, 'UTF8')`, t),
	}
}

// statementsIn writes the statements for a schema. In text, $0 stands for an argument that any text may be in.
func statementsIn(schema, text string, t tenantSQL) statements {
	in := func(parts ...string) string {
		sql := strings.ReplaceAll(strings.Join(parts, ""), "outbox.", schema+".")
		return anyText.ReplaceAllStringFunc(sql, func(arg string) string {
			return strings.ReplaceAll(text, "$0", strings.TrimSuffix(arg, "::any_text"))
		})
	}
	insert := fmt.Sprintf(insertMessage, t.column, t.value)
	intoDue, intoDead := fmt.Sprintf(intoDue, t.lane), fmt.Sprintf(intoDead, t.reason)
	return statements{
		due:         in(insert, returningMessage, intoDue),
		dueOnce:     in(insert, onceOnly, returningMessage, intoDue),
		invalid:     in(insert, returningMessage, intoDead),
		invalidOnce: in(insert, onceOnly, returningMessage, intoDead),
	}
}

// tenantSQL is what the statements say of a tenant. Where there is none, they do not name its column.
type tenantSQL struct{ column, value, lane, reason string }

var (
	noTenant = tenantSQL{lane: "endpoint", reason: "$12"}
	aTenant  = tenantSQL{
		column: ", tenant", value: ", $12::pg_catalog.text", reason: "$13",
		lane: "endpoint OPERATOR(pg_catalog.||) ' '::pg_catalog.text OPERATOR(pg_catalog.||) $12::pg_catalog.text", // lane.Of
	}
)

var anyText = regexp.MustCompile(`\$\d+::any_text`)

// The message and its due row are one statement: one round trip, or a place in the caller's pgx.Batch. Every argument
// is cast from text or bytea, so that drivers that know no uuid or jsonb, and the simple protocol, write the same.
//
// The session is the caller's, and none of its settings is changed. So every type and function is named with its schema:
// no search_path leads elsewhere. And text that is not ASCII goes as bytes (any_text), JSON with such characters escaped:
// under a client_encoding that is not UTF8, the server would take their bytes for other characters.
const (
	insertMessage = `WITH m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, dedupe_key%s)
VALUES ($1::pg_catalog.text::pg_catalog.uuid, $2::any_text, $3::pg_catalog.text, $4::pg_catalog.bytea, $5::any_text,
        $6::pg_catalog.text::pg_catalog.jsonb, $7::pg_catalog.int8, $8::any_text, $9::any_text,
        $10::pg_catalog.text::pg_catalog.jsonb, $11::any_text%s)`
	onceOnly         = ` ON CONFLICT (dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING`
	returningMessage = ` RETURNING id, endpoint)`
	intoDue          = ` INSERT INTO outbox.due (message_id, endpoint) SELECT id, %s FROM m`
	intoDead         = ` INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT id, endpoint, 'invalid', %s::any_text FROM m`
)

// textArgs are the indexes of the arguments that any_text stands for. So does the last one of a message that is dead at once.
var textArgs = []int{1, 4, 7, 8, 10}

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
	case state == "42703": // a column
		return fmt.Errorf("schema %s has older tables than this message needs; run 'outbox-worker migrate up': %w", w.schema, err)
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

func (w *Writer) statement(m Message) (id ID, sql string, _ []any, err error) {
	if m.ID == (ID{}) {
		m.ID = NewID()
	}
	r, err := newRow(m, w.bytesMax)
	if err != nil {
		return ID{}, "", nil, fmt.Errorf("insert message: %w", err)
	}
	args, text, ways := r.args, textArgs, w.ofNoTenant
	if m.Tenant != "" {
		args, ways = append(args, m.Tenant), w.ofATenant
	}
	if r.dead() {
		text = append(slices.Clone(text), len(args))
		args = append(args, r.reason())
	}
	st := ways.plain
	if encodeText(args, text) {
		st = ways.encoded
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
func encodeText(args []any, text []int) bool {
	if !slices.ContainsFunc(text, func(i int) bool {
		value, ok := args[i].(string)
		return ok && !isASCII(value)
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

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
