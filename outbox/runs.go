package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/nilcheck"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// Runs finds the messages of a run for a service: what became of its outcome? It is safe for concurrent use when its database
// is.
//
// In SQL the same is
//
//	SELECT id, state, attempts, last_status_code, last_error, next_attempt_at FROM outbox.status WHERE run_id = 'order-4711'
//
// Its role needs SELECT on the schema's tables and views.
type Runs struct {
	db     RowQuerier
	schema string
}

// RowQuerier queries one row: a *pgxpool.Pool, a *pgx.Conn, a pgx.Tx, or what [SQLDB] makes of a *sql.DB.
type RowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// NewRuns returns the runs of the outbox in schema (DefaultSchema when empty).
func NewRuns(db RowQuerier, schema string) (*Runs, error) {
	if nilcheck.Is(db) {
		return nil, errors.New("runs: the database is nil; pass a pool, or outbox.SQLDB(db)")
	}
	if schema == "" {
		schema = DefaultSchema
	}
	if err := CheckSchema(schema); err != nil {
		return nil, err
	}
	return &Runs{db: db, schema: schema}, nil
}

// RunMessage is one message of a run.
type RunMessage struct {
	ID             ID             `json:"id"`
	RunID          string         `json:"run_id"`
	Status         TerminalStatus `json:"status"` // of the run
	URL            string         `json:"url"`
	State          State          `json:"state"`
	Attempts       int            `json:"attempts"`
	LastClass      *string        `json:"last_class"`       // of the last attempt: delivered, or its fault
	LastStatusCode *int           `json:"last_status_code"` // of the last answer
	LastError      *string        `json:"last_error"`
	LastAttemptAt  *time.Time     `json:"last_attempt_at"`
	NextAttemptAt  *time.Time     `json:"next_attempt_at"` // nil unless due
	WaitsFor       *string        `json:"waits_for"`       // what the worker lacks to send it; nil when nothing
	DeadReason     *string        `json:"dead_reason"`
	DeadError      *string        `json:"dead_error"`
	CreatedAt      time.Time      `json:"created_at"`
}

// Settled reports that nothing more happens to the message by itself: it is delivered, dead or cancelled.
func (m RunMessage) Settled() bool {
	return m.State == StateDelivered || m.State == StateDead || m.State == StateCancelled
}

// runMessages reads all messages of a run as JSON, in bytes: alike with every driver, whatever the client's encoding.
var runMessages = `SELECT pg_catalog.convert_to(coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(r) ORDER BY r.id) FROM (
SELECT s.id, s.run_id, s.status, s.url, s.state, s.attempts, s.last_class, s.last_status_code, s.last_error,
       ` + sqltime.Bounded("s.last_attempt_at") + ` AS last_attempt_at, ` + sqltime.Bounded("s.next_attempt_at") + ` AS next_attempt_at,
       s.waits_for, s.dead_reason, s.dead_error, ` + sqltime.Bounded("s.created_at") + ` AS created_at
FROM outbox.status s WHERE s.run_id OPERATOR(pg_catalog.=) pg_catalog.convert_from($1::pg_catalog.bytea, 'UTF8')) r),
'[]'::pg_catalog.jsonb)::pg_catalog.text, 'UTF8')`

// Messages returns the messages of a run, the oldest first: none when the run has not ended, names no URL, or when retention
// pruned them.
func (r *Runs) Messages(ctx context.Context, runID string) ([]RunMessage, error) {
	if r == nil || r.db == nil {
		return nil, errors.New("messages: the Runs is nil or zero; make it with outbox.NewRuns")
	}
	var text []byte
	err := r.db.QueryRow(ctx, sqlschema.In(runMessages, r.schema), []byte(cleantext.Of(runID))).Scan(&text)
	if err != nil {
		return nil, fmt.Errorf("messages of run %.64q: %w", runID, missingTables(r.schema, err))
	}
	var all []RunMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("messages of run %.64q: %w", runID, err)
	}
	return all, nil
}

// Wait waits until the run has messages and all of them are settled, and returns them. It queries after 20 ms, and then at
// growing intervals up to a second. When ctx ends before, it returns what it saw last, with the error of ctx. A run that names
// no URL never has a message: give ctx a deadline.
//
// It is for tests, scripts and the rare caller that must know. A service that wants to be notified uses a callback URL.
func (r *Runs) Wait(ctx context.Context, runID string) ([]RunMessage, error) {
	const first, last = 20 * time.Millisecond, time.Second
	var seen []RunMessage
	for pause := first; ; pause = min(2*pause, last) {
		all, err := r.Messages(ctx, runID)
		if err != nil {
			if ctx.Err() != nil {
				return seen, fmt.Errorf("wait for run %.64q: %w", runID, ctx.Err())
			}
			return seen, err
		}
		if seen = all; settled(all) {
			return all, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return seen, fmt.Errorf("wait for run %.64q: %w", runID, ctx.Err())
		}
	}
}

func settled(all []RunMessage) bool {
	for _, m := range all {
		if !m.Settled() {
			return false
		}
	}
	return len(all) > 0
}

// SQLPool is a *sql.DB in the form that this package uses.
type SQLPool interface {
	Execer
	RowQuerier
}

// SQLDB turns a *sql.DB into what [NewWaker] and [NewRuns] need, with the driver of pgx and with lib/pq.
func SQLDB(db *sql.DB) SQLPool { return sqlDB{db} }

type sqlDB struct{ db *sql.DB }

var errNilDB = errors.New("SQLDB was given nil; did sql.Open fail?")

func (d sqlDB) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if d.db == nil {
		return pgconn.CommandTag{}, errNilDB
	}
	result, err := d.db.ExecContext(ctx, query, args...)
	return tagOf(result, err)
}

func (d sqlDB) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	if d.db == nil {
		return rowError{errNilDB}
	}
	return d.db.QueryRowContext(ctx, query, args...)
}
