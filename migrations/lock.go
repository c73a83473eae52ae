package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/session"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
)

// lockPoll is how often a migration that waits for another one tries to get the lock.
const lockPoll = 50 * time.Millisecond

// connections are what a migration needs: one holds the lock, the other works.
const connections = 2

// locked runs f while no other process migrates the same schema. The lock belongs to a transaction, so it also holds
// through a pooler in transaction mode and ends with its process.
//
// A migration tries to get it again and again, and does not wait in the database: a waiter there keeps a connection, and enough
// waiters on one pool would leave none for the migration that they wait for.
func locked(ctx context.Context, pool *pgxpool.Pool, config Config, direction string,
	f func(context.Context, migrator) error,
) error {
	if pool == nil {
		return errNilPool
	}
	c, err := config.withDefaults()
	if err != nil {
		return err
	}
	if pool.Config().MaxConns < connections {
		return fmt.Errorf("migrate: the pool allows 1 connection; %d are needed, because one holds the lock", connections)
	}
	own, err := ownPool(ctx, pool, c)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", direction, err)
	}
	defer own.Close()
	for {
		ran, err := tryLocked(ctx, migrator{c, own}, f)
		if err != nil {
			return fmt.Errorf("migrate %s: %w", direction, err)
		}
		if ran {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("migrate %s: schema %s is being migrated by another process: %w", direction, c.Schema, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

// timeouts of a migration's sessions: a statement may take its time, but not wait long for a lock while others queue
// behind it. The transaction with the advisory lock is idle while the other connection works.
func timeouts() []session.Setting { return session.Timeouts(0, 5*time.Second, 0) }

// ownPool opens connections like the caller's, with our settings. Warnings of the migrations go to the log.
func ownPool(ctx context.Context, pool *pgxpool.Pool, c Config) (*pgxpool.Pool, error) {
	config, pooler := pool.Config(), session.Auto
	if c.Pooled {
		pooler = session.Transaction
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = connections, 0, 0
	session.Pin(config, pooler, timeouts()...)
	theirs := config.ConnConfig.OnNotice
	config.ConnConfig.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			c.Logger.Warn("migration: " + n.Message)
		}
		if theirs != nil {
			theirs(conn, n)
		}
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// tryLocked runs f unless another process has the lock, and reports whether it did.
func tryLocked(ctx context.Context, m migrator, f func(context.Context, migrator) error) (ran bool, err error) {
	err = m.within(ctx, func(tx pgx.Tx) error {
		if err := checkEncoding(ctx, tx); err != nil {
			return err
		}
		var plain bool
		err := tx.QueryRow(ctx, `SELECT pg_catalog.quote_ident($1::pg_catalog.text) OPERATOR(pg_catalog.=) $1::pg_catalog.text,
    pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('epilogue migrate ' OPERATOR(pg_catalog.||) $1::pg_catalog.text, 0))`,
			m.Schema).Scan(&plain, &ran)
		if err != nil {
			return err
		}
		if !plain {
			return fmt.Errorf("schema %q is a reserved word of SQL; choose another name", m.Schema)
		}
		if !ran {
			return nil
		}
		return f(ctx, m)
	})
	return ran, err
}

// A migration that did not get a lock on a table within its lock_timeout is rolled back and tried again, so that it never
// holds up the statements that queue behind it for longer. So is one that Postgres ended because it and another
// transaction waited for each other: programs lock tables in orders of their own.
const (
	lockTries = 30
	lockPause = time.Second
)

const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)

// patiently runs a step again while a table that it needs is locked by somebody else.
func (m migrator) patiently(ctx context.Context, step func(context.Context) error) error {
	for try := 1; ; try++ {
		err := step(ctx)
		code := sqlstate.Of(err)
		if code != lockNotAvailable && code != deadlockDetected {
			return err
		}
		if try == lockTries {
			return fmt.Errorf("another transaction held a lock on one of the tables during each of %d tries; end it, and run this again: %w",
				lockTries, err)
		}
		m.Logger.WarnContext(ctx, "a table is locked by another transaction; trying again", "schema", m.Schema, "try", try, "error", err)
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(lockPause):
		}
	}
}
