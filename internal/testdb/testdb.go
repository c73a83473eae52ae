// Package testdb gives each test a database schema of its own, freshly migrated, on a server that the package's tests
// share: the one named in EPILOGUE_DATABASE_URL, or a throwaway one. Tests can therefore run in parallel, and see
// nothing but what they wrote.
//
//	func TestMain(m *testing.M) { testdb.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		t.Parallel()
//		db := testdb.New(t)
package testdb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

// DB is a schema for one test.
type DB struct {
	Pool   *pgxpool.Pool // of at most PoolMax connections
	Schema string        // migrated, unless made by NewEmpty
	URL    string        // of the server
}

// PoolMax is the size of a test's pool: more than a test needs, and few enough that two packages testing at once stay
// within a server's usual hundred connections.
const PoolMax = 16

const (
	cleanupMax = time.Minute
	dropTries  = 5 // autovacuum, or a session that has not ended yet, can deadlock with the drop
	prefix     = "test_"
)

// New returns a migrated schema, dropped when the test ends.
func New(t testing.TB) *DB {
	t.Helper()
	return NewAt(t, sharedURL(t))
}

// NewAt is [New] on another server, such as [OwnServer].
func NewAt(t testing.TB, url string) *DB {
	t.Helper()
	db := NewEmptyAt(t, url)
	if err := migrations.Up(context.Background(), db.Pool, migrations.Config{Schema: db.Schema}); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return db
}

// NewEmpty returns the name of a schema that does not exist yet. If it exists when the test ends, it is dropped.
func NewEmpty(t testing.TB) *DB {
	t.Helper()
	return NewEmptyAt(t, sharedURL(t))
}

func sharedURL(t testing.TB) string {
	t.Helper()
	url := os.Getenv(throwaway.URLVariable)
	if url == "" {
		t.Fatal("testdb: no server; the package's TestMain must call testdb.Main")
	}
	return url
}

// NewEmptyAt is [NewEmpty] on another server.
func NewEmptyAt(t testing.TB, url string) *DB {
	t.Helper()
	db := &DB{Schema: randomSchema(), URL: url}
	db.Pool = db.NewPool(t, nil)
	t.Cleanup(func() { db.drop(t) }) // first registered, last run: other pools of the test are closed by then
	return db
}

// NewPool returns another pool on the same server, closed when the test ends. change may change its configuration.
func (db *DB) NewPool(t testing.TB, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	config.MaxConns = PoolMax
	config.ConnConfig.RuntimeParams["application_name"] = db.Schema
	if change != nil {
		change(config)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return pool
}

// closePool names a connection that the test did not give back, where Close alone would wait for it for ever.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() { defer close(closed); pool.Close() }()
	select {
	case <-closed:
	case <-time.After(cleanupMax):
		t.Errorf("testdb: %d connections of the pool were not released: a transaction not ended, rows not closed?",
			pool.Stat().AcquiredConns())
	}
}

// drop uses a connection of its own, because that of the test may be broken, and a lock timeout, because a forgotten
// transaction of the test may hold locks.
func (db *DB) drop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupMax)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Errorf("testdb: dropping schema %s: %v", db.Schema, err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	for range dropTries {
		_, err = conn.Exec(ctx, "SET lock_timeout = '40s'; SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+
			db.Schema+" CASCADE")
		if sqlstate.Of(err) != "40P01" {
			break
		}
	}
	if err != nil {
		t.Errorf("testdb: dropping schema %s: %v", db.Schema, err)
	}
}

func randomSchema() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return prefix + hex.EncodeToString(b[:])
}
