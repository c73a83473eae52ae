package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// retentionArgs are the River job that prunes what is old.
type retentionArgs struct{}

// Kind is the job's kind in river_job.
func (retentionArgs) Kind() string { return "outbox_retention" }

// Retention runs every retentionEvery, in batches of retentionBatch rows, and stops after retentionTurn: the next run
// goes on.
const (
	retentionEvery = time.Minute
	retentionBatch = 1000
	retentionTurn  = 30 * time.Second
)

// pruner deletes messages that were delivered or died long enough ago, with their attempts, and endpoints with nothing
// left to remember.
type pruner struct {
	river.WorkerDefaults[retentionArgs]

	pool      *pgxpool.Pool
	sql       pruneSQL
	delivered time.Duration
	dead      time.Duration
	logger    *slog.Logger
}

type pruneSQL struct{ oldDelivered, oldDead, prune, endpoints string }

// Old rows are chosen and locked first, and looked at again by the deleting statement, whose snapshot is younger than
// the lock: a replay, which locks the message too, either is seen by it or waits for it and finds nothing.
//
// The ids begin with their writers' time, so the first condition, an hour slack for their clocks, keeps the scan to
// what is old; created_at, the database's, decides.
var retentionSQL = pruneSQL{
	oldDelivered: `SELECT m.id::text FROM outbox.message m
WHERE m.id < $1::text::uuid AND m.created_at < now() - $2::interval
  AND NOT EXISTS (SELECT FROM outbox.due d WHERE d.message_id = m.id)
  AND NOT EXISTS (SELECT FROM outbox.dead x WHERE x.message_id = m.id)
ORDER BY m.id LIMIT $3 FOR UPDATE OF m SKIP LOCKED`,
	oldDead: `SELECT m.id::text FROM outbox.dead x JOIN outbox.message m ON m.id = x.message_id
WHERE x.at < now() - $1::interval ORDER BY x.at LIMIT $2 FOR UPDATE OF x, m SKIP LOCKED`,
	prune: `WITH old AS (
    SELECT id FROM unnest($1::text[]::uuid[]) AS o (id)
    WHERE (SELECT true FROM outbox.due d WHERE d.message_id = o.id) IS NULL
      AND ($2::boolean OR (SELECT true FROM outbox.dead x WHERE x.message_id = o.id) IS NULL)
),
attempts AS (DELETE FROM outbox.attempt WHERE message_id = ANY (ARRAY(SELECT id FROM old))),
dead AS (DELETE FROM outbox.dead WHERE message_id = ANY (ARRAY(SELECT id FROM old)))
DELETE FROM outbox.message WHERE id = ANY (ARRAY(SELECT id FROM old))`,
	endpoints: `DELETE FROM outbox.endpoint
WHERE NOT paused AND (open_until IS NULL OR open_until < now()) AND max_in_flight IS NULL AND rate_per_second IS NULL
  AND (failures = 0 OR since < now() - interval '1 day')`,
}

// Work prunes until nothing is old or its turn is over.
func (p *pruner) Work(ctx context.Context, _ *river.Job[retentionArgs]) error {
	end := time.Now().Add(retentionTurn)
	var total pruned
	for ctx.Err() == nil && time.Now().Before(end) {
		batch, err := p.runOnce(ctx)
		if err != nil {
			return err
		}
		total.delivered += batch.delivered
		total.dead += batch.dead
		if batch.delivered < retentionBatch && batch.dead < retentionBatch {
			break
		}
	}
	if total.delivered+total.dead > 0 {
		p.logger.InfoContext(ctx, "retention", "delivered_pruned", total.delivered, "dead_pruned", total.dead)
	}
	_, err := p.pool.Exec(ctx, p.sql.endpoints)
	return err
}

type pruned struct{ delivered, dead int64 }

// runOnce prunes at most one batch of each kind and returns how many messages that were.
func (p *pruner) runOnce(ctx context.Context) (n pruned, err error) {
	floor := outbox.IDFloor(time.Now().Add(time.Hour - p.delivered)).String()
	n.delivered, err = p.prune(ctx, false, p.sql.oldDelivered, floor, p.delivered, retentionBatch)
	if err != nil {
		return n, err
	}
	n.dead, err = p.prune(ctx, true, p.sql.oldDead, p.dead, retentionBatch)
	return n, err
}

func (p *pruner) prune(ctx context.Context, dead bool, choose string, args ...any) (n int64, err error) {
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
		return 0, fmt.Errorf("retention: %w", err)
	}
	return n, nil
}
