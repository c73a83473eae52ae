package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestTwoSchemasInOneDatabaseDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	a, b := testdb.New(t), testdb.New(t)
	before := catalogue(t, a.Pool, a.Schema)
	must(t, migrations.Down(t.Context(), b.Pool, migrations.Config{Schema: b.Schema}))
	mustBeSame(t, before, catalogue(t, a.Pool, a.Schema))
	up(t, b)
	sameBut(t, a, b)
}

// The application has an older River in public, and the search path begins with public.
func TestAnApplicationsOwnRiverInPublicIsNotDisturbed(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t) // because the tests share public on the common server
	const theirs = 4
	db := testdb.NewAt(t, server.URL())
	migrator, err := rivermigrate.New(riverpgxv5.New(db.Pool), nil)
	must(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{TargetVersion: theirs})
	must(t, err)
	before := elsewhere(t, db)
	config := migrations.Config{Schema: db.Schema}
	for _, migrate := range []func() error{
		func() error { return migrations.Check(t.Context(), db.Pool, config) },
		func() error { return migrations.Down(t.Context(), db.Pool, config) },
		func() error { return migrations.Up(t.Context(), db.Pool, config) },
		func() error { return migrations.Check(t.Context(), db.Pool, config) },
		func() error { return migrations.Down(t.Context(), db.Pool, config) },
	} {
		must(t, migrate())
		mustBeSame(t, before, elsewhere(t, db))
	}
	if v := one[int](t, db.Pool, "SELECT max(version) FROM public.river_migration"); v != theirs {
		t.Errorf("the application's River is at version %d, want it unchanged", v)
	}
}

// elsewhere lists all objects of the database that are not in the test's schema.
func elsewhere(t *testing.T, db *testdb.DB) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ($1, 'pg_toast', 'pg_catalog', 'information_schema') UNION ALL
SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ($1, 'pg_catalog', 'information_schema') UNION ALL
SELECT nspname FROM pg_namespace WHERE nspname <> $1 ORDER BY 1`, db.Schema)
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return list
}
