package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// DB is the worker's pool, and what its transactions begin with. With a direct connection, the sessions have all settings that
// the statements rely on. Behind a pooler that lends a session for one transaction, each transaction brings the settings along, in
// its own round trip, and leaves nothing behind.
type DB struct {
	pool   *pgxpool.Pool
	pooled bool
	dead   func() []string
}

// Direct is a pool whose sessions have the settings of package session.
func Direct(pool *pgxpool.Pool) *DB { return &DB{pool: pool} }

// Pooled says that a pooler stands before the database. It is called before the first use.
func (db *DB) Pooled() { db.pooled = true }

// DeadOwners sets the function that knows which workers are dead: what they have under a lease is claimable at once. It is called
// before the first use. Without it, a lease ends only when its time is over.
func (db *DB) DeadOwners(names func() []string) { db.dead = names }

// deadOwners are the names of dead workers, as an argument.
func (db *DB) deadOwners() []string {
	if db.dead != nil {
		if names := db.dead(); names != nil {
			return names
		}
	}
	return []string{} // NULL would make a condition unknown
}

// bounds are the server's bounds on a transaction behind a pooler; a direct session has them already.
func bounds() []session.Setting {
	return session.Timeouts(time.Minute, 5*time.Second, 10*time.Second)
}

// begin begins a transaction of several round trips. Its isolation is not the database's default, which may be a stricter
// one: its later statements must see what the first did not.
func (db *DB) begin(ctx context.Context) (pgx.Tx, error) {
	if db.pooled {
		return session.Begin(ctx, db.pool, bounds()...)
	}
	return db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
}

// transact runs f in a transaction.
func (db *DB) transact(ctx context.Context, f func(pgx.Tx) error) error {
	tx, err := db.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // without effect after the commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// batch sends statements in one round trip, as one transaction. Its first answers are those of the settings: skip
// them with skipBeginning.
func (db *DB) batch(ctx context.Context, queue func(*pgx.Batch)) pgx.BatchResults {
	var batch pgx.Batch
	if db.pooled {
		batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
		batch.Queue(session.Local(bounds()...))
	}
	queue(&batch)
	if db.pooled {
		batch.Queue("COMMIT")
	}
	return db.pool.SendBatch(ctx, &batch)
}

func (db *DB) skipBeginning(results pgx.BatchResults) error {
	if !db.pooled {
		return nil
	}
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	return nil
}
