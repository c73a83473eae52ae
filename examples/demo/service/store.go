package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

//go:embed schema.sql
var schemaSQL string

// store is the service's own tables, and the hook beside them.
type store struct {
	pool   *pgxpool.Pool
	schema string
	hook   *hook.WebhookTerminalHook
}

func newStore(pool *pgxpool.Pool, schema string, terminal *hook.WebhookTerminalHook) *store {
	return &store{pool: pool, schema: schema, hook: terminal}
}

// in writes the schema's name into SQL that names the default one.
func (s *store) in(sql string) string {
	return strings.NewReplacer("demo.", s.schema+".", "EXISTS demo;", "EXISTS "+s.schema+";").Replace(sql)
}

func (s *store) create(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, s.in(schemaSQL)); err != nil {
		return fmt.Errorf("create the service's tables: %w", err)
	}
	return nil
}

// submit makes a run of each path that is not one yet, and returns how many runs there are.
func (s *store) submit(ctx context.Context, paths []string, callback string) (n int, err error) {
	err = s.pool.QueryRow(ctx, s.in(`WITH new AS (
INSERT INTO demo.run (id, callback_url)
SELECT path, $2 FROM unnest($1::text[]) WITH ORDINALITY AS p (path, n) ORDER BY n
ON CONFLICT DO NOTHING RETURNING id
), first AS (
INSERT INTO demo.step (run_id, number, name) SELECT id, 0, $3 FROM new
)
SELECT (SELECT count(*) FROM demo.run) + (SELECT count(*) FROM new)`), paths, callback, steps()[0].name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("submit: %w", err)
	}
	return n, nil
}

// progress is where a run stands: the step to be done next, and what the steps before it found.
type progress struct {
	RunID    string
	Number   int64 // of the run
	Callback string
	Step     int64
	Facts    facts
}

const selectProgress = `SELECT r.id, r.number, r.callback_url, s.number, coalesce(before.output, '{}')
FROM demo.run r
JOIN demo.step s ON s.run_id = r.id AND s.state = 'ready'
LEFT JOIN demo.step before ON before.run_id = r.id AND before.number = s.number - 1`

// unended returns the next runs after a number that have not ended.
func (s *store) unended(ctx context.Context, after int64, limit int) ([]progress, error) {
	return s.progress(ctx, selectProgress+` WHERE r.number > $1 AND r.status IS NULL ORDER BY r.number LIMIT $2`, after, limit)
}

// reload returns where one run stands; false when it has ended.
func (s *store) reload(ctx context.Context, runID string) (p progress, ready bool, err error) {
	list, err := s.progress(ctx, selectProgress+` WHERE r.id = $1 AND r.status IS NULL`, runID)
	if err != nil || len(list) == 0 {
		return p, false, err
	}
	return list[0], true, nil
}

func (s *store) progress(ctx context.Context, sql string, args ...any) ([]progress, error) {
	rows, err := s.pool.Query(ctx, s.in(sql), args...)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[progress])
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	return list, nil
}

// acknowledgement is what is committed when a step is done.
type acknowledgement struct {
	progress                    // as the step left it
	next     string             // name of the next step; "" when the run ends here
	outcome  *outbox.RunOutcome // how it ends
	attempt  string             // the mark of this try
	fails    bool               // roll back on purpose, after everything was written
}

var (
	// errOnPurpose ends a transaction that was to be rolled back.
	errOnPurpose = errors.New("rolled back on purpose")
	// errNotOurs says that the step is no longer ready: somebody else acknowledged it, or we did, and the answer was lost.
	errNotOurs = errors.New("the step is not ours to acknowledge")
)

// acknowledge commits the step and, if the run ends with it, the run's end and its message: all of it, or
// nothing.
func (s *store) acknowledge(ctx context.Context, a acknowledgement) error {
	if a.fails && a.outcome != nil {
		// In a transaction of its own: the record of what must not happen outlives the rollback.
		_, err := s.pool.Exec(ctx, s.in(`INSERT INTO demo.rolled_back (attempt, run_id) VALUES ($1, $2)`), a.attempt, a.RunID)
		if err != nil {
			return err
		}
	}
	output, err := json.Marshal(a.Facts)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(s.in(`UPDATE demo.step SET state = $3, output = $4, acknowledged_at = $5
WHERE run_id = $1 AND number = $2 AND state = 'ready'`), a.RunID, a.Step, a.state(), output, time.Now()).Exec(onlyOne)
		if a.outcome == nil {
			batch.Queue(s.in(`INSERT INTO demo.step (run_id, number, name) VALUES ($1, $2, $3)`), a.RunID, a.Step+1, a.next)
		} else if err := s.end(ctx, batch, a); err != nil {
			return err
		}
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if a.fails {
			return errOnPurpose
		}
		return nil
	})
}

// end adds the run's end to the batch, and the message: the hook costs no round trip.
func (s *store) end(ctx context.Context, batch *pgx.Batch, a acknowledgement) error {
	o := a.outcome
	batch.Queue(s.in(`UPDATE demo.run SET status = $2, result = $3, error = nullif($4, ''), attempt = $5, ended_at = $6
WHERE id = $1 AND status IS NULL`), a.RunID, o.Status, o.Result, o.Error, a.attempt, time.Now()).Exec(onlyOne)
	_, err := s.hook.Queue(ctx, batch, *o)
	return err
}

func (a acknowledgement) state() string {
	if a.outcome == nil || a.outcome.Status == outbox.Succeeded {
		return "done"
	}
	return a.outcome.Status.String()
}

func onlyOne(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 1 {
		return errNotOurs
	}
	return nil
}
