package hook_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

// exampleService returns what the examples need, in a schema of its own: a migrated outbox and a table of steps.
func exampleService() (pool *pgxpool.Pool, schema string, done func()) {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	pool, err := pgxpool.New(ctx, os.Getenv(throwaway.URLVariable))
	check(err)
	schema = "test_" + strings.ToLower(rand.Text())
	check(migrations.Up(ctx, pool, migrations.Config{Schema: schema}))
	_, err = pool.Exec(ctx, `CREATE TABLE `+schema+`.step (run_id text PRIMARY KEY, acknowledged boolean NOT NULL DEFAULT false);
INSERT INTO `+schema+`.step (run_id) VALUES ('order-4711')`)
	check(err)
	return pool, schema, func() {
		_, err := pool.Exec(ctx, "DROP SCHEMA "+schema+" CASCADE")
		check(err)
		pool.Close()
	}
}

func exampleSQLService() (db *sql.DB, schema string, done func()) {
	pool, schema, drop := exampleService()
	db = stdlib.OpenDBFromPool(pool)
	return db, schema, func() {
		_ = db.Close()
		drop()
	}
}
