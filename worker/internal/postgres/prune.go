package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Pruner deletes messages that were delivered or died long enough ago, with their attempts, and endpoints with nothing
// left to remember.
type Pruner struct {
	pool   *pgxpool.Pool
	sql    pruneStatements
	config PrunerConfig
}

// PrunerConfig is checked by the worker, not here.
type PrunerConfig struct {
	Schema    string
	Delivered time.Duration // how long a delivered message is kept, from its creation
	Dead      time.Duration // how long a dead message is kept, from its last death
}

// NewPruner returns a pruner.
func NewPruner(pool *pgxpool.Pool, c PrunerConfig) *Pruner {
	return &Pruner{pool: pool, config: c, sql: pruneStatements{
		oldDelivered: inSchema(oldDeliveredSQL, c.Schema), oldDead: inSchema(oldDeadSQL, c.Schema),
		prune: inSchema(pruneSQL, c.Schema), endpoints: inSchema(pruneEndpointsSQL, c.Schema),
	}}
}

// pruneBatch bounds one transaction, and with it how long its locks are held.
const pruneBatch = 1000

type pruneStatements struct{ oldDelivered, oldDead, prune, endpoints string }

// Old rows are chosen and locked first. The statement that deletes them looks at them again: its snapshot is younger than
// the lock. A replay locks the message, too. So either the deleting statement sees the replay, or the replay waits and
// finds nothing.
//
// Ids begin with their writers' time, so the first condition keeps the scan to what is old, with an hour's slack for the
// writers' clocks. created_at, the database's time, decides.
const oldDeliveredSQL = `SELECT m.id::text FROM outbox.message m
WHERE m.id < $1::text::uuid AND m.created_at < now() - $2::interval
  AND NOT EXISTS (SELECT FROM outbox.due d WHERE d.message_id = m.id)
  AND NOT EXISTS (SELECT FROM outbox.dead x WHERE x.message_id = m.id)
ORDER BY m.id LIMIT $3 FOR UPDATE OF m SKIP LOCKED`

const oldDeadSQL = `SELECT m.id::text FROM outbox.dead x JOIN outbox.message m ON m.id = x.message_id
WHERE x.at < now() - $1::interval ORDER BY x.at LIMIT $2 FOR UPDATE OF x, m SKIP LOCKED`

const pruneSQL = `WITH old AS (
    SELECT id FROM unnest($1::text[]::uuid[]) AS o (id)
    WHERE (SELECT true FROM outbox.due d WHERE d.message_id = o.id) IS NULL
      AND ($2::boolean OR (SELECT true FROM outbox.dead x WHERE x.message_id = o.id) IS NULL)
),
attempts AS (DELETE FROM outbox.attempt WHERE message_id = ANY (ARRAY(SELECT id FROM old))),
dead AS (DELETE FROM outbox.dead WHERE message_id = ANY (ARRAY(SELECT id FROM old)))
DELETE FROM outbox.message WHERE id = ANY (ARRAY(SELECT id FROM old))`

const pruneEndpointsSQL = `DELETE FROM outbox.endpoint e
WHERE ` + heldBack + ` IS NOT TRUE AND e.max_in_flight IS NULL AND e.rate_per_second IS NULL
  AND (e.failures = 0 OR e.since < now() - interval '1 day')`

// Pruned is how many messages of each kind were deleted.
type Pruned struct{ Delivered, Dead int64 }

// Prune deletes at most one batch of each kind, each in a transaction of its own. more says that a batch was full: the
// caller calls again. What it returns beside an error was deleted, too.
func (p *Pruner) Prune(ctx context.Context) (n Pruned, more bool, err error) {
	floor := outbox.IDFloor(time.Now().Add(time.Hour - p.config.Delivered)).String()
	n.Delivered, err = p.prune(ctx, false, p.sql.oldDelivered, floor, p.config.Delivered, pruneBatch)
	if err != nil {
		return n, false, fmt.Errorf("prune delivered messages: %w", err)
	}
	n.Dead, err = p.prune(ctx, true, p.sql.oldDead, p.config.Dead, pruneBatch)
	if err != nil {
		return n, false, fmt.Errorf("prune dead messages: %w", err)
	}
	return n, n.Delivered == pruneBatch || n.Dead == pruneBatch, nil
}

func (p *Pruner) prune(ctx context.Context, dead bool, choose string, args ...any) (n int64, err error) {
	// Not the database's default isolation, which may be a stricter one: the second statement must see what the first did not.
	err = pgx.BeginTxFunc(ctx, p.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, choose, args...)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(ids) == 0 {
			return err
		}
		tag, err := tx.Exec(ctx, p.sql.prune, ids, dead)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// PruneEndpoints deletes the endpoints that have nothing left to remember: they are neither held back nor limited, and
// they do not fail. One that fails is kept for a day after its state last changed.
func (p *Pruner) PruneEndpoints(ctx context.Context) error {
	if _, err := p.pool.Exec(ctx, p.sql.endpoints); err != nil {
		return fmt.Errorf("prune endpoints: %w", err)
	}
	return nil
}
