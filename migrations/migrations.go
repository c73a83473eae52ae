// Package migrations brings the outbox's tables, and River's beside them, into a schema of their own.
//
// [Up] is all most services need. It is safe to run again, and from several processes at once: a transaction-level
// advisory lock lets one of them work while the others wait, and a killed process releases it by itself. [Down] takes
// everything away again.
//
// A service that migrates with its own goose adds [FS] to it (the version table is then its own), and calls [UpRiver]
// for River's tables. The SQL files also run as they lie in the repository, for the default schema.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

//go:embed sql/*.sql
var files embed.FS

// Config says where and how to migrate. The zero value is usable.
type Config struct {
	Schema string       // outbox.DefaultSchema when empty; see outbox.CheckSchema for what is allowed
	Logger *slog.Logger // each migration that ran, at level Info; nothing when nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Schema == "" {
		c.Schema = outbox.DefaultSchema
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, outbox.CheckSchema(c.Schema)
}

// Up creates the schema and brings the outbox's and River's tables in it to the version this package knows. A schema
// that is newer is left as it is, with an error that says so.
func Up(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	return locked(ctx, pool, config, "up", func(ctx context.Context, c Config) error {
		if err := refuseForeign(ctx, pool, c); err != nil {
			return err
		}
		if _, err := pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+c.Schema); err != nil {
			return err
		}
		if err := gooseUp(ctx, pool, c); err != nil {
			return err
		}
		return riverUp(ctx, pool, c)
	})
}

// UpRiver brings only River's tables up to date, in a schema that exists: for a service that migrates the outbox's
// tables with its own goose.
func UpRiver(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	return locked(ctx, pool, config, "up", func(ctx context.Context, c Config) error { return riverUp(ctx, pool, c) })
}

// Down removes the outbox's and River's tables with all they hold, and the schema unless something else lives in it.
// A schema that does not exist is no error.
func Down(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	return locked(ctx, pool, config, "down", func(ctx context.Context, c Config) error {
		var exists bool
		err := pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", c.Schema).Scan(&exists)
		if err != nil || !exists {
			return err
		}
		if err := refuseForeign(ctx, pool, c); err != nil {
			return err
		}
		if err := gooseDown(ctx, pool, c); err != nil { // first, for it is what refuses a newer schema
			return err
		}
		if err := riverDown(ctx, pool, c); err != nil {
			return err
		}
		return dropSchema(ctx, pool, c)
	})
}

// versionTable is goose's record of what ran, in the outbox's own schema.
func versionTable(schema string) string { return schema + ".goose_db_version" }

// refuseForeign reports tables that are there without a record of ours: a service's own goose made them, and to create
// or drop them behind its back would leave its record wrong.
func refuseForeign(ctx context.Context, pool *pgxpool.Pool, c Config) error {
	version, err := outboxVersion(ctx, pool, c.Schema)
	if err != nil || version == 0 {
		return err
	}
	var recorded bool
	if err := pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", versionTable(c.Schema)).Scan(&recorded); err != nil {
		return err
	}
	if !recorded {
		return fmt.Errorf("schema %s: its tables were made by another goose, for %s is not there; "+
			"migrate them with that one, and River's with UpRiver", c.Schema, versionTable(c.Schema))
	}
	return nil
}

func provider(pool *pgxpool.Pool, c Config) (*goose.Provider, func() error, error) {
	db := stdlib.OpenDBFromPool(pool)
	p, err := goose.NewProvider(goose.DialectPostgres, db, FS(c.Schema),
		goose.WithTableName(versionTable(c.Schema)), goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return p, db.Close, nil
}

func gooseUp(ctx context.Context, pool *pgxpool.Pool, c Config) error {
	p, done, err := provider(pool, c)
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("%w: schema %s is at version %d, this program knows %d", ErrNewer, c.Schema, current, target)
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		c.Logger.InfoContext(ctx, "migrated", "schema", c.Schema, "line", "outbox", "file", r.Source.Path, "took", r.Duration)
	}
	return err
}

func gooseDown(ctx context.Context, pool *pgxpool.Pool, c Config) error {
	p, done, err := provider(pool, c)
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("%w: schema %s is at version %d, this program knows %d", ErrNewer, c.Schema, current, target)
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		return err
	}
	_, err = pool.Exec(ctx, "DROP TABLE IF EXISTS "+versionTable(c.Schema))
	return err
}

func riverMigrator(pool *pgxpool.Pool, c Config) (*rivermigrate.Migrator[pgx.Tx], error) {
	return rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: c.Schema, Logger: slog.New(slog.DiscardHandler),
	})
}

func riverUp(ctx context.Context, pool *pgxpool.Pool, c Config) error {
	m, err := riverMigrator(pool, c)
	if err != nil {
		return err
	}
	result, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return fmt.Errorf("river: %w", err)
	}
	for _, v := range result.Versions {
		c.Logger.InfoContext(ctx, "migrated", "schema", c.Schema, "line", "river", "version", v.Version, "took", v.Duration)
	}
	return nil
}

func riverDown(ctx context.Context, pool *pgxpool.Pool, c Config) error {
	m, err := riverMigrator(pool, c)
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1})
	if err != nil {
		return fmt.Errorf("river: %w", err)
	}
	return nil
}

// dropSchema drops the schema when nothing is left in it; what a stranger put there stays, and is logged.
func dropSchema(ctx context.Context, pool *pgxpool.Pool, c Config) error {
	_, err := pool.Exec(ctx, "DROP SCHEMA "+c.Schema+" RESTRICT")
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == dependentObjectsStillExist {
		c.Logger.WarnContext(ctx, "schema kept: it holds objects that are not the outbox's", "schema", c.Schema)
		return nil
	}
	return err
}

const dependentObjectsStillExist = "2BP01"

// FS returns the goose files for a schema, in the root of the file system. It panics for a name that
// outbox.CheckSchema refuses.
func FS(schema string) fs.FS {
	if err := outbox.CheckSchema(schema); err != nil {
		panic(err)
	}
	sub, err := fs.Sub(files, "sql")
	if err != nil {
		panic(err) // the folder is embedded: it cannot be absent
	}
	if schema == outbox.DefaultSchema {
		return sub
	}
	return rendered{FS: sub, schema: schema}
}

// Latest is the newest version of the outbox's tables that this package knows.
func Latest() int64 {
	entries, err := fs.ReadDir(files, "sql")
	if err != nil {
		panic(err) // embedded
	}
	versions := make([]int64, 0, len(entries))
	for _, e := range entries {
		v, err := goose.NumericComponent(e.Name())
		if err != nil {
			panic(err) // embedded
		}
		versions = append(versions, v)
	}
	return slices.Max(versions)
}

// render writes another schema's name where the default one qualifies a name. The files keep to two forms,
// "outbox." and "SCHEMA IF NOT EXISTS outbox;", and a test holds them to it.
func render(sql, schema string) string {
	return strings.NewReplacer("outbox.", schema+".", "EXISTS outbox;", "EXISTS "+schema+";").Replace(sql)
}
