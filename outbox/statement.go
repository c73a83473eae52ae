package outbox

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

// shape decides the text of the statement that writes a message. Each shape has a text of its own. So the usual message
// pays only for what it uses, and names no column that older tables lack.
type shape struct {
	tenant  bool // it names a tenant: needs the column tenant, which tables of version 5 lack
	once    bool // only if its dedupe key was not written before
	dead    bool // it is dead at once
	later   bool // it is due after a delay
	encoded bool // text that is not ASCII goes as bytes
	each    bool // a copy to each of several URLs
}

// statementTexts writes the statements of every shape for a schema.
func statementTexts(schema string) map[shape]string {
	texts := map[shape]string{}
	for bits := range 1 << 6 {
		has := func(bit int) bool { return bits>>bit&1 == 1 }
		s := shape{tenant: has(0), once: has(1), dead: has(2), later: has(3), encoded: has(4), each: has(5)}
		if s.dead && (s.later || s.each) {
			continue // a dead message is never due; with several URLs, each says whether it is dead
		}
		texts[s] = s.text(schema)
	}
	return texts
}

func (s shape) text(schema string) string {
	sql := s.one()
	if s.each {
		sql = s.several()
	}
	text := `$0::pg_catalog.text`
	if s.encoded {
		text = `pg_catalog.convert_from($0::pg_catalog.bytea, 'UTF8')`
	}
	sql = sqlschema.In(sql, schema)
	return anyText.ReplaceAllStringFunc(sql, func(arg string) string {
		return strings.ReplaceAll(text, "$0", strings.TrimSuffix(arg, "::any_text"))
	})
}

// anyText matches an argument for any text. It does not match ($1)::any_text.
var anyText = regexp.MustCompile(`\$\d+::any_text`)

// The message and its due row are one statement: one round trip, or one statement of the pgx.Batch of the caller. Every
// argument is cast from text or bytea, so that drivers without uuid or jsonb, and the simple protocol, write the same.
//
// The session belongs to the caller, and none of its settings is changed. So every type, function and operator is named with
// its schema, whatever the search_path. And text that is not ASCII is sent as bytes (any_text), and JSON with such characters
// escaped: under a client_encoding other than UTF8, the server would read their bytes as other characters.
//
// The due row is built from the arguments, not from the result of the first INSERT, so a writer needs no right to read. Only with a
// dedupe key does the statement check whether a row was written.
const (
	insertMessage = `WITH m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, dedupe_key%s)
VALUES ($1::pg_catalog.text::pg_catalog.uuid, $2::any_text, $3::pg_catalog.text, $4::pg_catalog.bytea, $5::any_text,
        $6::pg_catalog.text::pg_catalog.jsonb, $7::pg_catalog.int8, $8::any_text, $9::any_text,
        $10::pg_catalog.text::pg_catalog.jsonb, $11::any_text%s)`
	onceOnly = ` ON CONFLICT (dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING`
	theID    = `$1::pg_catalog.text::pg_catalog.uuid`
)

// textArgs are the indexes of the arguments that any_text stands for. It also stands for the last one of a message that is dead at once.
var textArgs = []int{1, 4, 7, 8, 10}

// one writes one message: $1 to $11, then the tenant, then the delay in milliseconds or the reason of a dead one.
func (s shape) one() string {
	n := 11
	next := func() string { n++; return fmt.Sprintf("$%d", n) }
	column, value, lane := "", "", "$9::any_text"
	if s.tenant {
		tenant := next() + "::pg_catalog.text"
		column, value = ", tenant", ", "+tenant
		lane += " OPERATOR(pg_catalog.||) ' '::pg_catalog.text OPERATOR(pg_catalog.||) " + tenant // lane.Of
	}
	sql, from := fmt.Sprintf(insertMessage, column, value), ""
	if s.once {
		sql, from = sql+onceOnly+" RETURNING true", " FROM m"
	}
	switch {
	case s.dead:
		return sql + `) INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT ` +
			theID + `, $9::any_text, 'invalid', ` + next() + `::any_text` + from
	case s.later:
		return sql + `) INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT ` + theID + `, ` + lane + `, ` + after(next()) + from
	}
	return sql + `) INSERT INTO outbox.due (message_id, endpoint) SELECT ` + theID + `, ` + lane + from
}

// after is the database's time plus a number of milliseconds.
func after(milliseconds string) string {
	return `pg_catalog.statement_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => ` +
		milliseconds + `::pg_catalog.int8::pg_catalog.float8 OPERATOR(pg_catalog./) 1000::pg_catalog.float8)`
}

// insertEach takes what all copies share as arguments, once, and one JSON array with an object for each destination
// ([destinationJSON]), so that the text of the statement is the same for any number of them. The command tag counts the dead
// messages, and is not read.
const insertEach = `WITH d AS MATERIALIZED (
SELECT (v OPERATOR(pg_catalog.->>) 'id')::pg_catalog.uuid AS id, v OPERATOR(pg_catalog.->>) 'url' AS url,
       v OPERATOR(pg_catalog.->>) 'endpoint' AS endpoint, v OPERATOR(pg_catalog.->>) 'lane' AS lane,
       v OPERATOR(pg_catalog.->>) 'key' AS key, v OPERATOR(pg_catalog.->>) 'fault' AS fault
FROM pg_catalog.jsonb_array_elements($8::pg_catalog.text::pg_catalog.jsonb) AS v),
m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, dedupe_key%s)
SELECT d.id, $1::any_text, $2::pg_catalog.text, $3::pg_catalog.bytea, $4::any_text, $5::pg_catalog.text::pg_catalog.jsonb,
       $6::pg_catalog.int8, d.url, d.endpoint, $7::pg_catalog.text::pg_catalog.jsonb, d.key%s FROM d%s),
u AS (
INSERT INTO outbox.due (message_id, endpoint%s) SELECT d.id, d.lane%s FROM %s WHERE d.fault IS NULL)
INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT d.id, d.endpoint, 'invalid', d.fault FROM %[6]s WHERE d.fault IS NOT NULL`

// textArgsEach are the same for several URLs.
var textArgsEach = []int{0, 3}

// several writes a copy for each of several URLs: $1 to $8, then the tenant, then the delay in milliseconds.
func (s shape) several() string {
	n := 8
	next := func() string { n++; return fmt.Sprintf("$%d", n) }
	column, value, once, dueColumn, dueValue, from := "", "", "", "", "", "d"
	if s.tenant {
		column, value = ", tenant", ", "+next()+"::pg_catalog.text"
	}
	if s.once {
		once, from = onceOnly+" RETURNING id", "d JOIN m ON m.id OPERATOR(pg_catalog.=) d.id"
	}
	if s.later {
		dueColumn, dueValue = ", due_at", ", "+after(next())
	}
	return fmt.Sprintf(insertEach, column, value, once, dueColumn, dueValue, from)
}
