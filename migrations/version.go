package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/rivermigrate"
)

var (
	// ErrNotMigrated says that the schema lacks the outbox's tables, or River's, or holds an older version of them.
	ErrNotMigrated = errors.New("not migrated")
	// ErrNewer says that the schema was migrated by a newer program than this one.
	ErrNewer = errors.New("migrated by a newer version")
)

// Versions says how far a schema is. Zero means that there is none of it yet.
type Versions struct {
	Outbox       int  `json:"outbox"`        // of the outbox's tables in the database
	OutboxLatest int  `json:"outbox_latest"` // that this program knows
	RiverPending bool `json:"river_pending"` // River's tables lack a migration that this program knows
}

// Status reads how far a schema is.
func Status(ctx context.Context, pool *pgxpool.Pool, config Config) (Versions, error) {
	v := Versions{OutboxLatest: int(Latest()), RiverPending: true}
	c, err := config.withDefaults()
	if err != nil {
		return v, err
	}
	v.Outbox, err = outboxVersion(ctx, pool, c.Schema)
	if err != nil || v.Outbox == 0 {
		return v, err
	}
	m, err := riverMigrator(pool, c)
	if err != nil {
		return v, err
	}
	result, err := m.Validate(ctx, &rivermigrate.ValidateOpts{})
	if err != nil {
		return v, fmt.Errorf("migrate status: river: %w", err)
	}
	v.RiverPending = !result.OK
	return v, nil
}

// Check returns nil when the schema is what this program needs, ErrNotMigrated or ErrNewer (with what to do) when it
// is not.
func Check(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	c, err := config.withDefaults()
	if err != nil {
		return err
	}
	v, err := Status(ctx, pool, c)
	switch {
	case err != nil:
		return err
	case v.Outbox > v.OutboxLatest:
		return fmt.Errorf("schema %s: %w: it is at version %d, this program knows %d; deploy the newer outbox-worker",
			c.Schema, ErrNewer, v.Outbox, v.OutboxLatest)
	case v.Outbox == 0:
		return fmt.Errorf("schema %s: %w: it holds no outbox; run 'outbox-worker migrate up'", c.Schema, ErrNotMigrated)
	case v.Outbox < v.OutboxLatest:
		return fmt.Errorf("schema %s: %w: it is at version %d, this program needs %d; run 'outbox-worker migrate up'",
			c.Schema, ErrNotMigrated, v.Outbox, v.OutboxLatest)
	case v.RiverPending:
		return fmt.Errorf("schema %s: %w: River's tables are missing or old; run 'outbox-worker migrate up'",
			c.Schema, ErrNotMigrated)
	}
	return nil
}

func outboxVersion(ctx context.Context, pool *pgxpool.Pool, schema string) (int, error) {
	var version int
	err := pool.QueryRow(ctx, "SELECT "+pgx.Identifier{schema, "version"}.Sanitize()+"()").Scan(&version)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == undefinedFunction || pgErr.Code == invalidSchemaName) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("migrate status: %w", err)
	}
	return version, nil
}

const (
	undefinedFunction = "42883"
	invalidSchemaName = "3F000"
)
