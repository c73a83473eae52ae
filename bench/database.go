package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/migrations"
)

// database is a trial's own schema, and the pools of its parts: each contender gets as many connections as it can use,
// and none that another left warm.
type database struct {
	url, schema string
	pool        *pgxpool.Pool // to prepare and to look; not what is measured
	pools       []*pgxpool.Pool
}

const (
	preparePoolMax = 16
	dropMax        = time.Minute
)

func newDatabase(ctx context.Context, url string) (*database, error) {
	var suffix [6]byte
	_, _ = rand.Read(suffix[:]) // never fails
	d := &database{url: url, schema: "bench_" + hex.EncodeToString(suffix[:])}
	var err error
	if d.pool, err = d.newPool(ctx, preparePoolMax); err != nil {
		return nil, err
	}
	if err := d.exec(ctx, "CREATE SCHEMA bench"); err != nil {
		d.pool.Close()
		return nil, err
	}
	return d, nil
}

// newPool returns a pool that is closed with the database.
func (d *database) newPool(ctx context.Context, connsMax int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(connsMax)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	d.pools = append(d.pools, pool)
	return pool, nil
}

// in puts the trial's schema in place of bench.
func (d *database) in(sql string) string {
	return strings.ReplaceAll(strings.ReplaceAll(sql, "bench.", d.schema+"."), "SCHEMA bench", "SCHEMA "+d.schema)
}

func (d *database) exec(ctx context.Context, sql string, args ...any) error {
	if _, err := d.pool.Exec(ctx, d.in(sql), args...); err != nil {
		return fmt.Errorf("%.60s: %w", sql, err)
	}
	return nil
}

// one runs a query for one value.
func one[T any](ctx context.Context, d *database, sql string, args ...any) (v T, err error) {
	if err := d.pool.QueryRow(ctx, d.in(sql), args...).Scan(&v); err != nil {
		return v, fmt.Errorf("%.60s: %w", sql, err)
	}
	return v, nil
}

// migrateOutbox brings up this project's tables.
func (d *database) migrateOutbox(ctx context.Context) error {
	return migrations.Up(ctx, d.pool, migrations.Config{Schema: d.schema})
}

// migrateRiver brings up River's tables alone.
func (d *database) migrateRiver(ctx context.Context) error {
	m, err := rivermigrate.New(riverpgxv5.New(d.pool), &rivermigrate.Config{Schema: d.schema, Logger: quiet()})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// settle brings the tables into the state of a system that has been running: statistics there, no page dirty, no page
// to be logged in full because of what was prepared.
func (d *database) settle(ctx context.Context) error {
	rows, err := d.pool.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY tablename", d.schema)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := d.exec(ctx, "VACUUM (ANALYZE) bench."+table); err != nil {
			return err
		}
	}
	return d.exec(ctx, "CHECKPOINT")
}

// walPosition returns how much WAL the server has written, in bytes.
func (d *database) walPosition(ctx context.Context) (int64, error) {
	return one[int64](ctx, d, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
}

// drop runs on a context of its own, for the trial's may have ended.
func (d *database) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropMax)
	defer cancel()
	for _, pool := range d.pools {
		if pool != d.pool {
			pool.Close()
		}
	}
	err := d.exec(ctx, "DROP SCHEMA bench CASCADE")
	err = errors.Join(err, d.exec(ctx, "CHECKPOINT"))
	d.pool.Close()
	return err
}

// quiet passes on what a library warns of: the rest would be in the report's way.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
