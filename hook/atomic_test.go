package hook_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// service is a small embedding service. It has steps to acknowledge, each the last one of its run. Two sequences count the
// transactions that were begun and those that were rolled back on purpose; a rollback does not undo a sequence.
type service struct {
	pool   *pgxpool.Pool
	sql    *sql.DB
	schema string
	hook   *hook.WebhookTerminalHook
}

func createService(t *testing.T, db *testdb.DB, steps int) {
	t.Helper()
	execute(t, db, `CREATE TABLE %[1]s.step (run_id text PRIMARY KEY, acknowledged boolean NOT NULL DEFAULT false);
CREATE INDEX ON %[1]s.step (run_id) WHERE NOT acknowledged;
CREATE SEQUENCE %[1]s.begun; CREATE SEQUENCE %[1]s.abandoned;
INSERT INTO %[1]s.step SELECT 'run ' || n FROM generate_series(1, %[2]d) n`, db.Schema, steps)
}

func newService(pool *pgxpool.Pool, schema string) (*service, error) {
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema})
	return &service{pool: pool, sql: stdlib.OpenDBFromPool(pool), schema: schema, hook: h}, err
}

// in puts the schema's name into a statement.
func (s *service) in(statement string) string { return fmt.Sprintf(statement, s.schema) }

// take finds a step that no other transaction has locked, and locks it until the transaction ends.
const take = `WITH free AS MATERIALIZED (
SELECT run_id FROM %[1]s.step WHERE NOT acknowledged ORDER BY run_id LIMIT 1 FOR UPDATE SKIP LOCKED)
SELECT run_id, nextval('%[1]s.begun') FROM free`

const acknowledge = `UPDATE %[1]s.step SET acknowledged = true WHERE run_id = $1 AND NOT acknowledged`

// endWithPgx ends a run. The update, the hook and the commit each take a round trip of their own. If abandon is true, it
// rolls back instead of the commit.
func (s *service) endWithPgx(ctx context.Context, abandon bool) error {
	return s.transact(ctx, abandon, func(tx pgx.Tx, runID string) error {
		if _, err := tx.Exec(ctx, s.in(acknowledge), runID); err != nil {
			return err
		}
		return s.hook.OnTermination(ctx, tx, testdb.Outcome(runID, receiver))
	})
}

// endWithBatch does the same, with the update and the hook in one round trip.
func (s *service) endWithBatch(ctx context.Context, abandon bool) error {
	return s.transact(ctx, abandon, func(tx pgx.Tx, runID string) error {
		var batch pgx.Batch
		batch.Queue(s.in(acknowledge), runID)
		if _, err := s.hook.Queue(ctx, &batch, testdb.Outcome(runID, receiver)); err != nil {
			return err
		}
		return tx.SendBatch(ctx, &batch).Close()
	})
}

func (s *service) transact(ctx context.Context, abandon bool, end func(pgx.Tx, string) error) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var runID string
	if err := tx.QueryRow(ctx, s.in(take)).Scan(&runID, nil); err != nil {
		return err
	}
	if err := end(tx, runID); err != nil {
		return err
	}
	if abandon {
		_, err := tx.Exec(ctx, s.in(`SELECT nextval('%s.abandoned')`))
		return err
	}
	return tx.Commit(ctx)
}

// endWithSQL does the same through database/sql.
func (s *service) endWithSQL(ctx context.Context, abandon bool) error {
	tx, err := s.sql.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var runID string
	var begun int64
	if err := tx.QueryRowContext(ctx, s.in(take)).Scan(&runID, &begun); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, s.in(acknowledge), runID); err != nil {
		return err
	}
	if err := s.hook.OnTermination(ctx, outbox.SQLTx(tx), testdb.Outcome(runID, receiver)); err != nil {
		return err
	}
	if abandon {
		_, err := tx.ExecContext(ctx, s.in(`SELECT nextval('%s.abandoned')`))
		return err
	}
	return tx.Commit()
}

// tally is what one query of the database finds.
type tally struct {
	Acknowledged int // steps
	Wrong        int // runs that are acknowledged or have messages, but not both, or not exactly one message
	NotDue       int // messages without a due row
}

// mustBeAtomic compares the acknowledged steps and the messages in one statement, and so at one instant. The promise holds
// at every instant, also while writers work.
func mustBeAtomic(t *testing.T, db *testdb.DB) tally {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), fmt.Sprintf(`
WITH m AS (SELECT run_id, count(*) AS messages FROM %[1]s.message GROUP BY run_id),
     a AS (SELECT run_id FROM %[1]s.step WHERE acknowledged)
SELECT (SELECT count(*) FROM a),
       (SELECT count(*) FROM a FULL JOIN m USING (run_id) WHERE a.run_id IS NULL OR m.messages IS DISTINCT FROM 1),
       (SELECT count(*) FROM %[1]s.message m LEFT JOIN %[1]s.due u ON u.message_id = m.id WHERE u.message_id IS NULL)`, db.Schema))
	must(t, err)
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[tally])
	must(t, err)
	if found.Wrong != 0 || found.NotDue != 0 {
		t.Fatalf("%d steps are acknowledged, and %d runs are wrong: %+v; want none wrong, and none that is not due", found.Acknowledged, found.Wrong, found)
	}
	return found
}
