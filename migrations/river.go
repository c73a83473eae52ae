package migrations

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// riverMigrator returns River's migrator. The pool may be nil where all calls pass a transaction.
func riverMigrator(pool *pgxpool.Pool, schema string) (*rivermigrate.Migrator[pgx.Tx], error) {
	return rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
}

func (m migrator) riverUp(ctx context.Context) error {
	return m.river(ctx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{MaxSteps: 1})
}

func (m migrator) riverDown(ctx context.Context) error {
	return m.river(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{MaxSteps: 1, TargetVersion: -1})
}

// river takes one step per transaction until there is none left to take. The transactions are ours, so that they have our
// settings through a pooler too: River's SQL names no schema for the functions that it calls.
func (m migrator) river(ctx context.Context, direction rivermigrate.Direction, step *rivermigrate.MigrateOpts) error {
	r, err := riverMigrator(m.pool, m.Schema)
	if err != nil {
		return err
	}
	for {
		var steps []rivermigrate.MigrateVersion
		err := m.within(ctx, func(tx pgx.Tx) error {
			//lint:ignore SA1019 deprecated because some steps cannot share a transaction; here each has one of its own
			result, err := r.MigrateTx(ctx, tx, direction, step)
			if err == nil {
				steps = result.Versions
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("river: %w", err)
		}
		if len(steps) == 0 {
			return nil
		}
		if direction == rivermigrate.DirectionUp {
			m.Logger.InfoContext(ctx, "migrated", "schema", m.Schema, "line", "river", "version", steps[0].Version, "took", steps[0].Duration)
		}
	}
}

// within runs f in a transaction with our settings.
func (m migrator) within(ctx context.Context, f func(pgx.Tx) error) error {
	tx, err := session.Begin(ctx, m.pool, timeouts()...)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return err
	}
	return tx.Commit(ctx)
}
