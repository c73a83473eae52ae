package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

var (
	// ErrNotMigrated says that the schema lacks the outbox's tables, or River's, or holds an older version of them than
	// this program needs.
	ErrNotMigrated = errors.New("not migrated")
	// ErrNewer says that the schema was migrated by a newer program, and that this one no longer works on it.
	ErrNewer = errors.New("migrated by a newer version")
	// ErrEncoding says that the database's encoding is not UTF8.
	ErrEncoding = errors.New("the database's encoding is not UTF8")
)

var errNilPool = errors.New("migrate: the pool is nil; did pgxpool.New fail?")

// Needed is the oldest version of the outbox's tables that this program works on. It stays behind [Latest] for as long
// as the program works without what the newest migrations add: then programs and schema can be upgraded in either order.
// Raise it in the first release that cannot, and say in CHANGELOG.md that the schema must be migrated before it.
const Needed = 2

// Versions says how far a schema is. Zero means that there is none of it yet.
type Versions struct {
	Outbox         int  `json:"outbox"`          // of the outbox's tables in the database
	CompatibleFrom int  `json:"compatible_from"` // the oldest program that works on them
	OutboxLatest   int  `json:"outbox_latest"`   // that this program knows: its own version
	OutboxNeeded   int  `json:"outbox_needed"`   // that this program needs at least
	RiverPending   bool `json:"river_pending"`   // River's tables lack a migration that this program needs
}

// Status reads the versions of a schema. A database whose encoding is not UTF8 is [ErrEncoding].
func Status(ctx context.Context, pool *pgxpool.Pool, config Config) (Versions, error) {
	v := Versions{OutboxLatest: int(Latest()), OutboxNeeded: Needed, RiverPending: true}
	if pool == nil {
		return v, errNilPool
	}
	c, err := config.withDefaults()
	if err != nil {
		return v, err
	}
	// Our settings for this transaction only: the pool is the caller's.
	tx, err := session.Begin(ctx, pool, session.Timeouts(30*time.Second, 10*time.Second, 30*time.Second)...)
	if err != nil {
		return v, fmt.Errorf("migrate status: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := v.read(ctx, tx, c.Schema); err != nil {
		return v, fmt.Errorf("migrate status: %w", err)
	}
	return v, nil
}

func (v *Versions) read(ctx context.Context, tx pgx.Tx, schema string) (err error) {
	if err := checkEncoding(ctx, tx); err != nil {
		return err
	}
	if v.Outbox, err = functionValue(ctx, tx, schema, "version"); err != nil || v.Outbox == 0 {
		return err
	}
	if v.CompatibleFrom, err = functionValue(ctx, tx, schema, "compatible_from"); err != nil {
		return err
	}
	if v.CompatibleFrom == 0 { // before version 3, programs worked on their own version only
		v.CompatibleFrom = v.Outbox
	}
	m, err := riverMigrator(nil, schema)
	if err != nil {
		return err
	}
	result, err := m.ValidateTx(ctx, tx, &rivermigrate.ValidateOpts{})
	if err != nil {
		return fmt.Errorf("river: %w", err)
	}
	v.RiverPending = !result.OK
	return nil
}

// Check returns nil when this program works on the schema, and ErrNotMigrated, ErrNewer or ErrEncoding (with what to do)
// when it does not. A schema that is a little newer or older than the program is no fault: see [Needed].
func Check(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	c, err := config.withDefaults()
	if err != nil {
		return err
	}
	v, err := Status(ctx, pool, c)
	if err != nil {
		return err
	}
	return v.fault(c.Schema)
}

func (v Versions) fault(schema string) error {
	switch {
	case v.Outbox == 0:
		return fmt.Errorf("schema %s: %w: it holds no outbox; run 'outbox-worker migrate up'", schema, ErrNotMigrated)
	case v.CompatibleFrom > v.OutboxLatest:
		return newer(schema, v.Outbox, v.CompatibleFrom)
	case v.Outbox < v.OutboxNeeded:
		return fmt.Errorf("schema %s: %w: it is at version %d, this program needs %d; run 'outbox-worker migrate up'",
			schema, ErrNotMigrated, v.Outbox, v.OutboxNeeded)
	case v.RiverPending:
		return fmt.Errorf("schema %s: %w: River's tables are missing or old; run 'outbox-worker migrate up'", schema, ErrNotMigrated)
	}
	return nil
}

// newer is the error about a schema at a version that works with programs of version from, or newer, only.
func newer(schema string, version, from int) error {
	if from == 0 {
		from = version
	}
	return fmt.Errorf("schema %s: %w: it is at version %d, which works with programs from version %d on; this one is of version %d; deploy a newer one",
		schema, ErrNewer, version, from, Latest())
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// functionValue calls one of the schema's functions without arguments, 0 when it is missing. It looks for the function first:
// an error would end the transaction.
func functionValue(ctx context.Context, db queryer, schema, name string) (value int, err error) {
	var exists bool
	call := pgx.Identifier{schema, name}.Sanitize() + "()"
	err = db.QueryRow(ctx, "SELECT pg_catalog.to_regprocedure($1::pg_catalog.text) IS NOT NULL", call).Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = db.QueryRow(ctx, "SELECT "+call).Scan(&value)
	return value, err
}

// checkEncoding refuses a database that cannot hold every text that a run may leave behind.
func checkEncoding(ctx context.Context, db queryer) error {
	var encoding string
	if err := db.QueryRow(ctx, "SELECT pg_catalog.getdatabaseencoding()::pg_catalog.text").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("%w: it is %s, which cannot hold every text that a run leaves behind; create one with ENCODING 'UTF8'", ErrEncoding, encoding)
	}
	return nil
}
