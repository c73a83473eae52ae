package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lockPoll is how often a migration that waits for another one asks for the lock.
const lockPoll = 50 * time.Millisecond

// locked runs f while no other process migrates the same schema. The lock belongs to a transaction, so it also holds
// through a pooler in transaction mode and ends with its process.
//
// It is asked for again and again, not waited for in the database: who waits there keeps a connection, and enough
// waiters on one pool would leave none for the one that they wait for.
func locked(ctx context.Context, pool *pgxpool.Pool, config Config, direction string,
	f func(context.Context, Config) error,
) error {
	c, err := config.withDefaults()
	if err != nil {
		return err
	}
	if pool.Config().MaxConns < 2 {
		return errors.New("migrate: the pool allows 1 connection; 2 are needed, for one holds the lock")
	}
	for {
		ran, err := tryLocked(ctx, pool, c, f)
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

// tryLocked runs f unless another process has the lock, and reports whether it did.
func tryLocked(ctx context.Context, pool *pgxpool.Pool, c Config, f func(context.Context, Config) error) (ran bool, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
			return err
		}
		var plain bool
		err := tx.QueryRow(ctx, `SELECT quote_ident($1) = $1, pg_try_advisory_xact_lock(hashtextextended('epilogue migrate ' || $1, 0))`,
			c.Schema).Scan(&plain, &ran)
		if err != nil {
			return err
		}
		if !plain {
			return fmt.Errorf("schema %q is a reserved word of SQL; choose another name", c.Schema)
		}
		if !ran {
			return nil
		}
		return f(ctx, c)
	})
	return ran, err
}
