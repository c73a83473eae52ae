package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Pruner deletes messages that were delivered or died long enough ago, with their attempts, and endpoints with nothing
// left to remember. It continues where its last batch ended, and starts again after the end. So a row that it could not delete,
// because another session has locked it or a rule refuses it, does not block the others. Two goroutines must not use it
// at once.
type Pruner struct {
	db     *DB
	sql    pruneStatements
	config PrunerConfig

	// Where the next batch of each kind begins: behind the last row of the last one.
	delivered, dead, endpoint, orphan mark
}

// mark is a position in an order of rows: a key, and what the rows are ordered by before the key, if anything. The zero mark is
// before all rows.
type mark struct {
	key    string
	at     time.Time // of a dead message
	number int       // of an attempt
}

// PrunerConfig is checked by the worker, not here.
type PrunerConfig struct {
	Schema    string
	Delivered time.Duration // how long a delivered message is kept, from its creation
	Dead      time.Duration // how long a dead message is kept, from its last death
}

// NewPruner returns a pruner.
func NewPruner(db *DB, c PrunerConfig) *Pruner {
	return &Pruner{db: db, config: c, sql: pruneStatements{
		oldDelivered: sqlschema.In(oldDeliveredSQL, c.Schema), oldDead: sqlschema.In(oldDeadSQL, c.Schema),
		prune: sqlschema.In(pruneSQL, c.Schema), oldEndpoints: sqlschema.In(oldEndpointsSQL, c.Schema), endpoints: sqlschema.In(pruneEndpointsSQL, c.Schema),
		orphans: sqlschema.In(pruneOrphansSQL, c.Schema), deadOrphans: sqlschema.In(pruneDeadOrphansSQL, c.Schema),
	}}
}

// pruneBatch bounds one transaction, and with it how long its locks are held.
const pruneBatch = 1000

// orphanBatch is how many attempts one call of PruneOrphans looks at: ten million take a day and a half.
const orphanBatch = 5000

// pruneSettings bound each wait for a lock. After a first wait without success, the others are short.
const (
	pruneSettings     = `SELECT set_config('lock_timeout', '200ms', true)`
	impatientSettings = `SELECT set_config('lock_timeout', '20ms', true)`
)

type pruneStatements struct {
	oldDelivered, oldDead, prune, oldEndpoints, endpoints, orphans, deadOrphans string
}

// Old rows are chosen and locked first. The statement that deletes them looks at them again, with a snapshot that is younger than
// the lock. A replay locks the message, too. So either the deleting statement sees the replay, or the replay waits and
// finds nothing.
//
// Ids begin with their writers' time, so the first condition limits the scan to old ids, with an hour for the
// writers' clocks. created_at, the database's time, decides.
const oldDeliveredSQL = `SELECT m.id::text, m.created_at FROM outbox.message m
WHERE m.id > $1::text::uuid AND m.id < ` + idFloorLeft + `now() + interval '1 h' - $2::interval` + idFloorRight + `
  AND m.created_at < now() - $2::interval
  AND NOT EXISTS (SELECT FROM outbox.due d WHERE d.message_id = m.id)
  AND NOT EXISTS (SELECT FROM outbox.dead x WHERE x.message_id = m.id)
ORDER BY m.id LIMIT $3 FOR UPDATE OF m SKIP LOCKED`

const oldDeadSQL = `SELECT m.id::text, x.at FROM outbox.dead x JOIN outbox.message m ON m.id = x.message_id
WHERE x.at >= $1::timestamptz AND (x.at, x.message_id) > ($1::timestamptz, $2::text::uuid) AND x.at < now() - $3::interval
ORDER BY x.at, x.message_id LIMIT $4 FOR UPDATE OF x, m SKIP LOCKED`

const pruneSQL = `WITH old AS (
    SELECT id FROM unnest($1::text[]::uuid[]) AS o (id)
    WHERE (SELECT true FROM outbox.due d WHERE d.message_id = o.id) IS NULL
      AND ($2::boolean OR (SELECT true FROM outbox.dead x WHERE x.message_id = o.id) IS NULL)
),
attempts AS (DELETE FROM outbox.attempt WHERE message_id = ANY (ARRAY(SELECT id FROM old))),
dead AS (DELETE FROM outbox.dead WHERE message_id = ANY (ARRAY(SELECT id FROM old)))
DELETE FROM outbox.message WHERE id = ANY (ARRAY(SELECT id FROM old))`

const oldEndpointsSQL = `SELECT e.endpoint::text, e.since FROM outbox.endpoint e
WHERE e.endpoint > $1 AND ` + heldBack + ` IS NOT TRUE AND e.max_in_flight IS NULL AND e.rate_per_second IS NULL
  AND (e.failures = 0 OR e.since < now() - interval '1 day')
ORDER BY e.endpoint LIMIT $2 FOR UPDATE SKIP LOCKED`

const pruneEndpointsSQL = `DELETE FROM outbox.endpoint WHERE endpoint = ANY ($1::text[])`

// pruneOrphansSQL walks over some attempts, in the order of their key, and deletes those without a message. No attempt is
// written before its message.
const pruneOrphansSQL = `WITH walked AS MATERIALIZED (
    SELECT message_id, attempt, started_at FROM outbox.attempt
    WHERE (message_id, attempt) > ($1::text::uuid, $2::integer) ORDER BY message_id, attempt LIMIT $3
),
orphans AS MATERIALIZED (
    SELECT w.message_id, w.attempt FROM walked w
    WHERE w.started_at < now() - interval '1 hour' AND (SELECT true FROM outbox.message m WHERE m.id = w.message_id) IS NULL
),
free AS MATERIALIZED (
    SELECT a.message_id, a.attempt FROM outbox.attempt a
    WHERE a.message_id = ANY (ARRAY(SELECT message_id FROM orphans)) FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM outbox.attempt a WHERE a.message_id = ANY (ARRAY(SELECT message_id FROM free))
      AND (a.message_id, a.attempt) IN (SELECT message_id, attempt FROM free)
)
(SELECT message_id::text, attempt FROM walked ORDER BY message_id DESC, attempt DESC LIMIT 1)`

// pruneDeadOrphansSQL deletes rows of dead whose message is gone.
const pruneDeadOrphansSQL = `DELETE FROM outbox.dead WHERE message_id = ANY (ARRAY(
    SELECT x.message_id FROM outbox.dead x
    WHERE x.at < now() - $1::interval AND (SELECT true FROM outbox.message m WHERE m.id = x.message_id) IS NULL
    ORDER BY x.at LIMIT $2 FOR UPDATE SKIP LOCKED))`

// Pruned is how many messages of each kind were deleted.
type Pruned struct{ Delivered, Dead int64 }

// Prune deletes at most one batch of each kind, each in a transaction of its own. more says that a batch was full: the
// caller calls again. The counts returned with an error were deleted, too.
func (p *Pruner) Prune(ctx context.Context) (n Pruned, more bool, err error) {
	var moreDelivered, moreDead bool
	n.Delivered, moreDelivered, err = p.prune(ctx, &p.delivered, p.removeMessages(false),
		p.sql.oldDelivered, p.delivered.id(), p.config.Delivered)
	if err != nil {
		return n, false, fmt.Errorf("prune delivered messages: %w", err)
	}
	n.Dead, moreDead, err = p.prune(ctx, &p.dead, p.removeMessages(true), p.sql.oldDead, p.dead.at, p.dead.id(), p.config.Dead)
	if err != nil {
		return n, false, fmt.Errorf("prune dead messages: %w", err)
	}
	return n, moreDelivered || moreDead, nil
}

// PruneEndpoints deletes a batch of the endpoints that have nothing left to remember: they are neither held back nor
// limited, and they do not fail. One that fails is kept for a day after its state last changed.
func (p *Pruner) PruneEndpoints(ctx context.Context) error {
	remove := func(ctx context.Context, tx pgx.Tx, names []string) (int64, error) {
		tag, err := tx.Exec(ctx, p.sql.endpoints, names)
		return tag.RowsAffected(), err
	}
	if _, _, err := p.prune(ctx, &p.endpoint, remove, p.sql.oldEndpoints, p.endpoint.key); err != nil {
		return fmt.Errorf("prune endpoints: %w", err)
	}
	return nil
}

// PruneOrphans deletes those of the next few thousand attempts that have no message, and a batch of dead rows without one.
func (p *Pruner) PruneOrphans(ctx context.Context) error {
	from := p.orphan
	p.orphan = mark{} // start again, after the last one or after a fault
	err := p.db.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, pruneSettings); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, p.sql.orphans, from.id(), from.number, orphanBatch).Scan(&p.orphan.key, &p.orphan.number)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		_, err = tx.Exec(ctx, p.sql.deadOrphans, p.config.Dead, pruneBatch)
		return err
	})
	if err != nil {
		return fmt.Errorf("prune what has no message: %w", err)
	}
	return nil
}

// id is a mark's key as an id.
func (m mark) id() string {
	if m.key == "" {
		return outbox.ID{}.String()
	}
	return m.key
}

// remove deletes rows by their keys.
type remove func(ctx context.Context, tx pgx.Tx, keys []string) (int64, error)

func (p *Pruner) removeMessages(dead bool) remove {
	return func(ctx context.Context, tx pgx.Tx, ids []string) (int64, error) {
		tag, err := tx.Exec(ctx, p.sql.prune, ids, dead)
		return tag.RowsAffected(), err
	}
}

// prune chooses a batch behind a mark, locks it and deletes it. more says that the batch was full.
func (p *Pruner) prune(ctx context.Context, from *mark, remove remove, choose string, args ...any) (n int64, more bool, err error) {
	var next mark
	err = p.db.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, pruneSettings); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, choose, append(args, pruneBatch)...)
		if err != nil {
			return err
		}
		var keys []string
		var last mark
		if _, err := pgx.ForEachRow(rows, []any{&last.key, &last.at}, func() error {
			keys = append(keys, last.key)
			return nil
		}); err != nil {
			return err
		}
		if len(keys) == pruneBatch {
			next = last
		}
		n, err = removeParts(ctx, tx, keys, remove)
		return err
	})
	*from = next
	if err != nil {
		return 0, false, err
	}
	return n, next != mark{}, nil
}

// removeParts deletes a batch, and leaves out the rows that another session has locked, or that a rule protects: a
// batch that fails is halved, and so are halves that fail. What is left after some tries waits for the next run.
func removeParts(ctx context.Context, tx pgx.Tx, keys []string, remove remove) (n int64, err error) {
	todo := [][]string{keys}
	for tries := 0; len(todo) > 0 && tries < pruneParts; tries++ {
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if len(part) == 0 {
			continue
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			removed, err := remove(ctx, tx, part)
			if err == nil {
				n += removed
			}
			return err
		})
		switch {
		case err == nil:
			continue
		case !IsLocked(err) && !IsConflict(err) && !IsRefusal(err):
			return 0, err
		}
		if _, err := tx.Exec(ctx, impatientSettings); err != nil {
			return 0, err
		}
		if half := len(part) / 2; half > 0 {
			todo = append(todo, part[half:], part[:half])
		}
	}
	return n, nil
}

// pruneParts bounds the deletes of one transaction.
const pruneParts = 64
