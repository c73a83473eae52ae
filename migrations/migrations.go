// Package migrations brings the outbox's tables, and River's beside them, into a schema of their own.
//
// [Up] is all most services need. It is safe to run again, and from several processes at once: a transaction-level
// advisory lock lets one of them work while the others wait, and is released when its process is killed. [Down] removes
// everything again.
//
// A service that migrates with its own goose adds [FS] to it (the version table is then its own), and calls [UpRiver]
// for River's tables. The SQL files also run as they lie in the repository, for the default schema. For other tools,
// [Plan.SQL] writes both as plain SQL.
//
// [Check] tells a program whether it can work on a schema. Versions overlap: a program works on the schema of its own
// version, of the next one, and of the one before unless it needs what the newest migration adds. DESIGN.md says what
// the author of a migration must do for that.
//
// Migrations set their sessions themselves (package session): what the database, the role or the connection string says
// about search_path, encodings or timeouts does not change what they do. They work on connections of their own, opened
// from the pool's configuration; through a pooler in transaction mode, which is recognised, they set nothing beyond a
// transaction.
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

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

//go:embed sql/*.sql
var files embed.FS

// Config says where and how to migrate. The zero value is usable.
type Config struct {
	Schema string       // outbox.DefaultSchema when empty; see outbox.CheckSchema for what is allowed
	Logger *slog.Logger // each migration that ran, at level Info, and what it repaired, at Warn; nothing when nil

	// Pooled says that the pool's connections go through a pooler in transaction mode, where no setting may outlive a
	// transaction. A pooler that makes up its own key for cancellations, as all known ones do, is recognised without it.
	Pooled bool
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
// that is newer is left as it is: without an error when this program works on it, with [ErrNewer] when not.
func Up(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	return locked(ctx, pool, config, "up", func(ctx context.Context, m migrator) error {
		if err := m.refuseForeign(ctx); err != nil {
			return err
		}
		if err := m.createSchema(ctx); err != nil {
			return err
		}
		if err := m.patiently(ctx, m.gooseUp); err != nil {
			return err
		}
		return m.patiently(ctx, m.riverUp)
	})
}

// UpRiver brings only River's tables up to date, in a schema that exists: for a service that migrates the outbox's
// tables with its own goose.
func UpRiver(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	return locked(ctx, pool, config, "up", func(ctx context.Context, m migrator) error { return m.patiently(ctx, m.riverUp) })
}

// Down removes the outbox's and River's tables and everything in them, and the schema unless something else is in it.
// A schema that does not exist is no error; one that is newer is left as it is, with [ErrNewer].
func Down(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	return locked(ctx, pool, config, "down", func(ctx context.Context, m migrator) error {
		exists, err := m.schemaExists(ctx)
		if err != nil || !exists {
			return err
		}
		if err := m.refuseForeign(ctx); err != nil {
			return err
		}
		if err := m.patiently(ctx, m.gooseDown); err != nil { // first, because it refuses a newer schema
			return err
		}
		if err := m.patiently(ctx, m.riverDown); err != nil {
			return err
		}
		return m.dropSchema(ctx)
	})
}

// migrator has what a migration needs: the complete configuration, and a pool of its own with our settings.
type migrator struct {
	Config
	pool *pgxpool.Pool
}

func (m migrator) schemaExists(ctx context.Context) (exists bool, err error) {
	err = m.pool.QueryRow(ctx, `SELECT pg_catalog.to_regnamespace($1::pg_catalog.text) IS NOT NULL`, m.Schema).Scan(&exists)
	return exists, err
}

// createSchema creates the schema unless it is there. IF NOT EXISTS alone would need the right to create one even then.
func (m migrator) createSchema(ctx context.Context) error {
	exists, err := m.schemaExists(ctx)
	if err == nil && !exists {
		_, err = m.pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+m.Schema)
	}
	return err
}

// versionTable is goose's record of what ran, in the outbox's own schema.
func versionTable(schema string) string { return schema + ".goose_db_version" }

// refuseForeign reports tables that exist without a record of ours: a service's own goose, or another tool, made
// them, and its record would be wrong if we created or dropped them.
func (m migrator) refuseForeign(ctx context.Context) error {
	version, err := functionValue(ctx, m.pool, m.Schema, "version")
	if err != nil || version == 0 {
		return err
	}
	var recorded bool
	err = m.pool.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1::pg_catalog.text) IS NOT NULL", versionTable(m.Schema)).Scan(&recorded)
	if err != nil {
		return err
	}
	if !recorded {
		return fmt.Errorf("schema %s: its tables were made by another goose, or from 'migrate sql', because %s is missing; "+
			"migrate them in that way, and River's too or with UpRiver", m.Schema, versionTable(m.Schema))
	}
	return nil
}

func (m migrator) provider() (*goose.Provider, func() error, error) {
	db := stdlib.OpenDBFromPool(m.pool)
	create := "CREATE SCHEMA IF NOT EXISTS " + m.Schema + ";" // done by createSchema, which needs fewer rights
	files := rendered{FS: FS(m.Schema), change: func(sql string) string { return strings.Replace(sql, create, "", 1) }}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable(m.Schema)), goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return p, db.Close, nil
}

func (m migrator) gooseUp(ctx context.Context) error {
	p, done, err := m.provider()
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return m.leaveNewer(ctx, current, target)
	}
	results, err := p.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	for _, r := range results {
		m.Logger.InfoContext(ctx, "migrated", "schema", m.Schema, "line", "outbox", "file", r.Source.Path, "took", r.Duration)
	}
	return err
}

// leaveNewer checks whether this program can work on a schema that a newer one migrated.
func (m migrator) leaveNewer(ctx context.Context, current, target int64) error {
	from, err := functionValue(ctx, m.pool, m.Schema, "compatible_from")
	if err != nil {
		return err
	}
	if from == 0 || int64(from) > target {
		return newer(m.Schema, int(current), from)
	}
	m.Logger.InfoContext(ctx, "left as it is: migrated by a newer version, which this one works with",
		"schema", m.Schema, "version", current, "compatible_from", from)
	return nil
}

func (m migrator) gooseDown(ctx context.Context) error {
	p, done, err := m.provider()
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("%w: schema %s is at version %d, this program knows %d", ErrNewer, m.Schema, current, target)
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		return err
	}
	_, err = m.pool.Exec(ctx, "DROP TABLE IF EXISTS "+versionTable(m.Schema))
	return err
}

// dropSchema drops the schema when nothing is left in it; what others put there stays, and is logged.
func (m migrator) dropSchema(ctx context.Context) error {
	_, err := m.pool.Exec(ctx, "DROP SCHEMA "+m.Schema+" RESTRICT")
	if sqlstate.Of(err) == dependentObjectsStillExist {
		m.Logger.WarnContext(ctx, "schema kept: it holds objects that are not the outbox's", "schema", m.Schema)
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
	return rendered{FS: sub, change: func(sql string) string { return render(sql, schema) }}
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

// render writes another schema's name where the default one qualifies a name. The files use only two forms,
// "outbox." and "SCHEMA IF NOT EXISTS outbox;", which a test checks.
func render(sql, schema string) string {
	return sqlschema.In(strings.ReplaceAll(sql, "EXISTS outbox;", "EXISTS "+schema+";"), schema)
}
