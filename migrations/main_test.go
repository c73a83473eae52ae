package migrations_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestMain(m *testing.M) {
	testdb.Main(m, testdb.Child{Name: "migrate up", Run: migrateUp})
}

func up(t *testing.T, db *testdb.DB) {
	t.Helper()
	must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	must(t, err)
}

func one[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

// catalogue lists all objects of the schema, with their kinds and, where they have one, their definitions.
func catalogue(t *testing.T, pool *pgxpool.Pool, schema string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = $1)
SELECT 'class ' || relkind::text || ' ' || relname FROM pg_class, n WHERE relnamespace = n.oid
UNION ALL SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_proc p, n WHERE pronamespace = n.oid
UNION ALL SELECT 'type ' || typname FROM pg_type, n WHERE typnamespace = n.oid
UNION ALL SELECT 'enum ' || typname || ' ' || enumlabel FROM pg_enum JOIN pg_type t ON t.oid = enumtypid, n WHERE typnamespace = n.oid
UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(c.oid) FROM pg_constraint c, n WHERE connamespace = n.oid
UNION ALL SELECT 'view ' || relname || ' ' || pg_get_viewdef(c.oid) FROM pg_class c, n WHERE relnamespace = n.oid AND relkind = 'v'`,
		schema)
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	slices.Sort(list)
	return list
}

// mustBeSame reports only the differences of two catalogues, because they are long.
func mustBeSame(t *testing.T, before, after []string) {
	t.Helper()
	for _, gone := range without(before, after) {
		t.Errorf("this object is missing: %s", gone)
	}
	for _, added := range without(after, before) {
		t.Errorf("this object is new: %s", added)
	}
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

// migrateUp is what a child process does.
func migrateUp() int {
	url, schema := testdb.ChildDatabase()
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 1
	}
	defer pool.Close()
	if err := migrations.Up(ctx, pool, migrations.Config{Schema: schema}); err != nil {
		println(err.Error())
		return 1
	}
	return 0
}
