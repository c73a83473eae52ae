package stand

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/migrations"
)

// Database is a trial's own schema, and the pools of its parts: each contender gets as many connections as it can use,
// and none that another left warm.
type Database struct {
	URL, Schema string
	Pool        *pgxpool.Pool // to prepare and to look; not what is measured
	pools       []*pgxpool.Pool
}

const (
	preparePoolMax = 16
	dropMax        = time.Minute
)

func newDatabase(ctx context.Context, url string) (*Database, error) {
	var suffix [6]byte
	_, _ = rand.Read(suffix[:]) // never fails
	d := &Database{URL: url, Schema: "bench_" + hex.EncodeToString(suffix[:])}
	var err error
	if d.Pool, err = d.NewPool(ctx, preparePoolMax); err != nil {
		return nil, err
	}
	if err := d.Exec(ctx, "CREATE SCHEMA bench"); err != nil {
		d.Pool.Close()
		return nil, err
	}
	return d, nil
}

// NewPool returns a pool that is closed with the database.
func (d *Database) NewPool(ctx context.Context, connsMax int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(d.URL)
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

// In puts the trial's schema in place of bench.
func (d *Database) In(sql string) string {
	return strings.ReplaceAll(strings.ReplaceAll(sql, "bench.", d.Schema+"."), "SCHEMA bench", "SCHEMA "+d.Schema)
}

// Exec runs a statement in which bench stands for the trial's schema.
func (d *Database) Exec(ctx context.Context, sql string, args ...any) error {
	if _, err := d.Pool.Exec(ctx, d.In(sql), args...); err != nil {
		return fmt.Errorf("%.60s: %w", sql, err)
	}
	return nil
}

// One runs a query for one value, with bench for the trial's schema.
func One[T any](ctx context.Context, d *Database, sql string, args ...any) (v T, err error) {
	if err := d.Pool.QueryRow(ctx, d.In(sql), args...).Scan(&v); err != nil {
		return v, fmt.Errorf("%.60s: %w", sql, err)
	}
	return v, nil
}

// MigrateOutbox brings up this project's tables.
func (d *Database) MigrateOutbox(ctx context.Context) error {
	return migrations.Up(ctx, d.Pool, migrations.Config{Schema: d.Schema})
}

// MigrateRiver brings up River's tables alone.
func (d *Database) MigrateRiver(ctx context.Context) error {
	m, err := rivermigrate.New(riverpgxv5.New(d.Pool), &rivermigrate.Config{Schema: d.Schema, Logger: Quiet()})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// Settle brings the tables into the state of a system that has been running: statistics there, no page dirty, neither in
// Postgres nor in the kernel, no page to be logged in full because of what was prepared.
func (d *Database) Settle(ctx context.Context) error {
	rows, err := d.Pool.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY tablename", d.Schema)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := d.Exec(ctx, "VACUUM (ANALYZE) bench."+table); err != nil {
			return err
		}
	}
	if err := d.Exec(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	_ = exec.CommandContext(ctx, "sync").Run() // without that program, the kernel decides when to write
	return nil
}

// WALPosition returns how much WAL the server has written, in bytes.
func (d *Database) WALPosition(ctx context.Context) (int64, error) {
	return One[int64](ctx, d, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
}

// Drop drops the schema and closes the pools. It runs on a context of its own, because the trial's may have ended.
func (d *Database) Drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropMax)
	defer cancel()
	for _, pool := range d.pools {
		if pool != d.Pool {
			pool.Close()
		}
	}
	err := d.Exec(ctx, "DROP SCHEMA bench CASCADE")
	err = errors.Join(err, d.Exec(ctx, "CHECKPOINT"))
	d.Pool.Close()
	return err
}

// Quiet passes on only the warnings of a library: the rest would disturb the report.
func Quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
