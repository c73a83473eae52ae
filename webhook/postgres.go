package webhook

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// DefaultTable is the table of a [PostgresStore].
const DefaultTable = "webhook_delivery"

// PostgresConfig configures a [PostgresStore]. The zero value is usable.
type PostgresConfig struct {
	// Table, with its schema before it if needed: lower-case letters, digits and _, at most 40 of them in each.
	// DefaultTable when empty. One per sender: ids are unique per sender only.
	Table string

	// Lease is how long a claim holds. DefaultLease when 0; from 1 ms. The database's clock decides.
	Lease time.Duration
}

// PostgresStore is a [Store] in a table, shared by every process that uses it. It works with any database/sql driver for
// Postgres that writes parameters as $1. [PostgresStore.TableSQL] makes the table.
//
// As the store of a [Handler] it keeps two processes from handling one message at the same time, and from handling a processed
// one again. There is one gap: a process can commit the work of a handler and die, or lose its database, before that is
// recorded here; then the message is handled again. [PostgresStore.Once] closes the gap for work in the same database.
type PostgresStore struct {
	db    *sql.DB
	table string // as it stands in SQL
	index string
	lease time.Duration
}

var tableName = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,39}\.)?[a-z_][a-z0-9_]{0,39}$`)

// NewPostgresStore returns a store, or every fault of its configuration at once. It does not touch the database.
func NewPostgresStore(db *sql.DB, c PostgresConfig) (*PostgresStore, error) {
	var faults []error
	if db == nil {
		faults = append(faults, errors.New("db is nil; want a *sql.DB"))
	}
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if !tableName.MatchString(c.Table) {
		faults = append(faults, fmt.Errorf("Table is %.100q; want a name, or schema.name, of a-z, 0-9 and _, "+
			"each of 1 to 40 characters and not beginning with a digit", c.Table))
	}
	leased, err := lease(c.Lease)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("webhook postgres store: %w", err)
	}
	_, name, qualified := strings.Cut(c.Table, ".")
	if !qualified {
		name = c.Table
	}
	return &PostgresStore{
		db: db, table: `"` + strings.ReplaceAll(c.Table, ".", `"."`) + `"`, index: `"` + name + `_received_at"`, lease: leased,
	}, nil
}

//go:embed delivery.sql
var tableSQL string

// TableSQL returns the statements that create the table and its index where they do not exist, for your migrations. By default,
// without comments:
//
//	CREATE TABLE IF NOT EXISTS webhook_delivery (
//	    webhook_id    text COLLATE "C" PRIMARY KEY CHECK (octet_length(webhook_id) BETWEEN 1 AND 256),
//	    token         text NOT NULL DEFAULT '',
//	    claimed_until timestamptz,
//	    received_at   timestamptz NOT NULL DEFAULT clock_timestamp()
//	);
//	CREATE INDEX IF NOT EXISTS webhook_delivery_received_at ON webhook_delivery (received_at);
func (s *PostgresStore) TableSQL() string {
	return strings.NewReplacer("webhook_delivery_received_at", s.index, DefaultTable, s.table).Replace(tableSQL)
}

// in writes the table's name into SQL.
func (s *PostgresStore) in(query string) string { return strings.ReplaceAll(query, "$table", s.table) }

// Claim implements [Store]: one statement for a new message, up to three for a known one. It waits for a transaction that is
// recording the same message by [PostgresStore.Once], and its end decides.
func (s *PostgresStore) Claim(ctx context.Context, id string) (Claim, error) {
	claim := Claim{ID: id, Token: rand.Text(), State: First, Lease: s.lease}
	const insert = `INSERT INTO $table (webhook_id, token, claimed_until)
		VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) ON CONFLICT (webhook_id) DO NOTHING`
	if ok, err := s.exec(ctx, s.db, "claim", insert, id, claim.Token, s.lease.Seconds()); ok || err != nil {
		return claim, err
	}
	var processed, expired bool
	const read = `SELECT claimed_until IS NULL, coalesce(claimed_until <= clock_timestamp(), false)
		FROM $table WHERE webhook_id = $1`
	err := s.db.QueryRowContext(ctx, s.in(read), id).Scan(&processed, &expired)
	switch {
	case errors.Is(err, sql.ErrNoRows): // given back meanwhile: the next attempt will claim it
		return Claim{ID: id, State: InProgress}, nil
	case err != nil:
		return Claim{}, fmt.Errorf("claim: %w", err)
	case processed:
		return Claim{ID: id, State: Duplicate}, nil
	case !expired:
		return Claim{ID: id, State: InProgress}, nil
	}
	const takeOver = `UPDATE $table SET token = $2, claimed_until = clock_timestamp() + make_interval(secs => $3),
		received_at = clock_timestamp() WHERE webhook_id = $1 AND claimed_until <= clock_timestamp()`
	if ok, err := s.exec(ctx, s.db, "claim", takeOver, id, claim.Token, s.lease.Seconds()); ok || err != nil {
		return claim, err
	}
	return Claim{ID: id, State: InProgress}, nil
}

// record ignores who holds the claim: a processed message is processed for all.
const record = `INSERT INTO $table AS d (webhook_id) VALUES ($1)
	ON CONFLICT (webhook_id) DO UPDATE SET claimed_until = NULL WHERE d.claimed_until IS NOT NULL`

// Finish implements [Store].
func (s *PostgresStore) Finish(ctx context.Context, claim Claim, processed bool) error {
	if processed {
		_, err := s.exec(ctx, s.db, "record", record, claim.ID)
		return err
	}
	const release = `DELETE FROM $table WHERE webhook_id = $1 AND token = $2 AND claimed_until IS NOT NULL`
	_, err := s.exec(ctx, s.db, "release", release, claim.ID, claim.Token)
	return err
}

// Once records in the transaction of the caller that the message was processed, and reports whether this is the first time. If
// it is not, do no work and answer 2xx. The record is committed together with the work, or not at all: so work in the same
// database is done exactly once, whichever process dies.
//
// Another transaction that records the same id meanwhile waits for this one to end. At REPEATABLE READ and above it then fails
// with a serialization error (40001): answer 503, or retry the transaction, as usual.
//
// It works with and without a [Handler] that has this store; such a handler answers most repeats before any transaction begins.
func (s *PostgresStore) Once(ctx context.Context, tx *sql.Tx, id string) (first bool, err error) {
	return s.exec(ctx, tx, "once", record, id)
}

// OnceSQL returns the statement of [PostgresStore.Once], for transactions that are not database/sql's. Its parameter $1
// is the id; it is the first time when the statement affects one row, and not when it affects none:
//
//	tag, err := tx.Exec(ctx, store.OnceSQL(), delivery.ID) // a pgx.Tx
//	first := tag.RowsAffected() == 1
func (s *PostgresStore) OnceSQL() string { return s.in(record) }

// Prune deletes up to max messages that were received longer ago than age, and returns how many: call it again while that is
// max. A repeat of a pruned message is handled as a new one, so age should be longer than the retries of the sender: about 90
// hours for the default schedule of a worker, more where an operator replays.
func (s *PostgresStore) Prune(ctx context.Context, age time.Duration, max int) (pruned int, err error) {
	const prune = `DELETE FROM $table WHERE webhook_id IN (
		SELECT webhook_id FROM $table
		WHERE received_at < clock_timestamp() - make_interval(secs => $1)
			AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
		ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
	result, err := s.db.ExecContext(ctx, s.in(prune), age.Seconds(), max)
	if err != nil {
		return 0, fmt.Errorf("webhook postgres store: prune: %w", err)
	}
	n, err := result.RowsAffected()
	return int(n), err
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// exec runs a statement on one row, and reports whether the row changed.
func (s *PostgresStore) exec(ctx context.Context, db execer, what, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, s.in(query), args...)
	if err != nil {
		return false, fmt.Errorf("webhook postgres store: %s: %w", what, err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
