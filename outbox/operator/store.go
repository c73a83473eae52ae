package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/nilcheck"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Store reads and changes the outbox for an operator. It is safe for concurrent use when its DB is.
//
// Times are read between 1970 and 9999: an infinite one, which was written by hand, is shown as the bound.
type Store struct {
	db     outbox.DB
	schema string
	tenant string // the only tenant whose messages it sees and changes; all when empty
	tables *tables
}

// NewStore returns a store of the outbox in schema (DefaultSchema when empty).
func NewStore(db outbox.DB, schema string) (*Store, error) {
	if nilcheck.Is(db) {
		return nil, errors.New("store: the database is nil; pass a pool")
	}
	if schema == "" {
		schema = outbox.DefaultSchema
	}
	if err := outbox.CheckSchema(schema); err != nil {
		return nil, err
	}
	return &Store{db: db, schema: schema, tables: new(tables)}, nil
}

// in writes the schema's name into SQL that names the default one.
func (s *Store) in(sql string) string { return sqlschema.In(sql, s.schema) }

// The sessions and their search_path belong to the caller. So every function, type and operator is named with its schema; IN,
// BETWEEN, NULLIF and CASE x WHEN are not used, because they find operators through the search_path.

// ErrNotFound says that no such message exists, or that retention pruned it.
var ErrNotFound = errors.New("no such message")

// MessageStatus is one row of the view outbox.status.
type MessageStatus struct {
	ID             outbox.ID             `json:"id"`
	RunID          string                `json:"run_id"`
	Status         outbox.TerminalStatus `json:"status"`
	Endpoint       string                `json:"endpoint"`
	URL            string                `json:"url"`
	State          outbox.State          `json:"state"`
	Attempts       int                   `json:"attempts"`
	LastClass      *string               `json:"last_class"`       // of the last attempt: delivered, or its fault
	LastStatusCode *int                  `json:"last_status_code"` // of the last answer
	LastError      *string               `json:"last_error"`
	LastAttemptAt  *time.Time            `json:"last_attempt_at"`
	NextAttemptAt  *time.Time            `json:"next_attempt_at"` // nil unless due; not before HeldUntil where something holds it back
	WaitsFor       *string               `json:"waits_for"`       // what the worker lacks to send it; nil when nothing
	LockedBy       *string               `json:"locked_by"`       // the worker that holds the lease
	LockedUntil    *time.Time            `json:"locked_until"`
	DeadReason     *string               `json:"dead_reason"`
	DeadError      *string               `json:"dead_error"`
	DeadAt         *time.Time            `json:"dead_at"`
	ReplayOf       *outbox.ID            `json:"replay_of"`
	CreatedAt      time.Time             `json:"created_at"`
	Tenant         *string               `json:"tenant"` // nil for none
	Kind           *string               `json:"kind"`   // nil for an outcome; event for a report to an operator

	Hold // why it is not tried although it is due
}

// statusColumns are the columns of a MessageStatus, of the view outbox.status as s.
func statusColumns(version int64) string {
	hold, kind := noHold, `NULL::pg_catalog.text`
	if version >= sinceTenants {
		hold = holdColumns
	}
	if version >= sinceKinds {
		kind = "s.kind"
	}
	return columnsOfVersion1 + `, ` + tenantColumn(version >= sinceTenants, "s.tenant") + `, ` + kind + `, ` + hold
}

var columnsOfVersion1 = `s.id, s.run_id, s.status, s.endpoint, s.url, s.state, s.attempts, s.last_class, s.last_status_code,
s.last_error, ` + sqltime.Bounded("s.last_attempt_at") + `, ` + sqltime.Bounded("s.next_attempt_at") + `, s.waits_for, s.locked_by, ` +
	sqltime.Bounded("s.locked_until") + `, s.dead_reason, s.dead_error, ` + sqltime.Bounded("s.dead_at") + `, s.replay_of, ` + sqltime.Bounded("s.created_at")

func (m *MessageStatus) fields() []any {
	return append([]any{
		&m.ID, &m.RunID, &m.Status, &m.Endpoint, &m.URL, &m.State, &m.Attempts, &m.LastClass, &m.LastStatusCode,
		&m.LastError, &m.LastAttemptAt, &m.NextAttemptAt, &m.WaitsFor, &m.LockedBy, &m.LockedUntil, &m.DeadReason, &m.DeadError, &m.DeadAt,
		&m.ReplayOf, &m.CreatedAt, &m.Tenant, &m.Kind,
	}, m.Hold.fields()...)
}

// MessageDetail is a message with all its fields and every attempt.
type MessageDetail struct {
	MessageStatus
	Result      []byte            `json:"result"` // base64 in JSON; nil unless the run succeeded
	Error       *string           `json:"error"`
	Headers     map[string]string `json:"headers"`
	FinalStep   uint32            `json:"final_step"`
	Options     json.RawMessage   `json:"options,omitempty"`
	DedupeKey   *string           `json:"dedupe_key"`
	AttemptList []Attempt         `json:"attempt_list"`
}

// Attempt is one row of outbox.attempt.
type Attempt struct {
	Attempt    int       `json:"attempt"`
	StartedAt  time.Time `json:"started_at"`
	DurationMS *int      `json:"duration_ms"` // nil when lost
	Class      string    `json:"class"`
	StatusCode *int      `json:"status_code"`
	Error      *string   `json:"error"`
	Response   *string   `json:"response"` // start of the response body
	Note       *string   `json:"note"`
	Worker     string    `json:"worker"`
}

// Show returns one message, or an error that wraps [ErrNotFound].
func (s *Store) Show(ctx context.Context, id outbox.ID) (MessageDetail, error) {
	var d MessageDetail
	var headers []byte
	knows, err := s.knowsTenants(ctx)
	if err != nil {
		return d, fmt.Errorf("show %s: %w", id, err)
	}
	row := s.db.QueryRow(ctx, s.in(`SELECT `+statusColumns(s.tables.version.Load())+`, m.result, m.error, m.headers, m.final_step, m.options, m.dedupe_key
FROM outbox.status s JOIN outbox.message m ON m.id OPERATOR(pg_catalog.=) s.id WHERE s.id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid AND `+ofTenant(tenantColumn(knows, "s.tenant"), "$2")), id, orNull(s.tenant))
	err = row.Scan(append(d.fields(), &d.Result, &d.Error, &headers, &d.FinalStep, &d.Options, &d.DedupeKey)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, fmt.Errorf("show %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return d, fmt.Errorf("show %s: %w", id, err)
	}
	d.Headers = readHeaders(headers)
	rows, err := s.db.Query(ctx, s.in(`SELECT attempt, `+sqltime.Bounded("started_at")+`, duration_ms, class, status_code, error, response, note, worker
FROM outbox.attempt WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid ORDER BY attempt`), id)
	if err == nil {
		d.AttemptList, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Attempt])
	}
	if err != nil {
		return d, fmt.Errorf("show %s: attempts: %w", id, err)
	}
	return d, nil
}

// readHeaders reads the headers of a message, even those that were written by hand: a value that is not text is shown as its
// JSON, because an operator must be able to read any message.
func readHeaders(text []byte) map[string]string {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(text, &values); err != nil {
		return map[string]string{"": string(text)}
	}
	headers := make(map[string]string, len(values))
	for key, value := range values {
		var s string
		if json.Unmarshal(value, &s) != nil {
			s = string(value)
		}
		headers[key] = s
	}
	return headers
}

// StateCount is one row of the view outbox.overview.
type StateCount struct {
	State            outbox.State `json:"state"`
	Messages         int64        `json:"messages"`
	OldestDue        *time.Time   `json:"oldest_due"`
	OldestInFlight   *time.Time   `json:"oldest_in_flight"`
	OldestLeaseUntil *time.Time   `json:"oldest_lease_until"`
	OldestDead       *time.Time   `json:"oldest_dead"`
	Estimated        bool         `json:"estimated"` // Messages, which are exact to 100 000; the times are those of a sample then
}

// Overview counts the messages in each state. For a store of a tenant ([Store.OfTenant]), delivered messages are left out: to
// count them would read all that were ever written.
func (s *Store) Overview(ctx context.Context) ([]StateCount, error) {
	if s.tenant != "" {
		return s.overviewOfTenant(ctx)
	}
	return collect[StateCount](ctx, s, "overview",
		`SELECT state, messages, `+sqltime.Bounded("oldest_due")+`, `+sqltime.Bounded("oldest_in_flight")+`, `+sqltime.Bounded("oldest_lease_until")+`, `+
			sqltime.Bounded("oldest_dead")+`, coalesce((pg_catalog.to_jsonb(o) OPERATOR(pg_catalog.->>) 'estimated')::pg_catalog.bool, false)
FROM outbox.overview o`) // before version 7, the view had no such column
}

func collect[T any](ctx context.Context, s *Store, what, sql string, args ...any) ([]T, error) {
	rows, err := s.db.Query(ctx, s.in(sql), args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return list, nil
}
