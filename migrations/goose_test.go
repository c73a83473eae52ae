package migrations_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

// serviceGoose is the provider of an embedding service, with a version table of its own.
func serviceGoose(t *testing.T, db *testdb.DB, app string) *goose.Provider {
	t.Helper()
	conn := stdlib.OpenDBFromPool(db.Pool)
	t.Cleanup(func() { must(t, conn.Close()) })
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.FS(db.Schema),
		goose.WithTableName(app+".service_version"), goose.WithDisableGlobalRegistry(true))
	must(t, err)
	return provider
}

func TestAServicesOwnGooseCanRunTheFilesBesideUpRiver(t *testing.T) {
	t.Parallel()
	db, app := testdb.NewEmpty(t), testdb.NewEmpty(t)
	execute(t, db.Pool, "CREATE SCHEMA "+app.Schema)
	provider := serviceGoose(t, db, app.Schema)
	config := migrations.Config{Schema: db.Schema}
	_, err := provider.Up(t.Context())
	must(t, err)

	err = migrations.Check(t.Context(), db.Pool, config)
	if !errors.Is(err, migrations.ErrNotMigrated) || !strings.Contains(err.Error(), "River") {
		t.Errorf("before UpRiver, Check returns %v, want ErrNotMigrated that names River", err)
	}
	must(t, migrations.UpRiver(t.Context(), db.Pool, config))
	must(t, migrations.Check(t.Context(), db.Pool, config))

	for what, err := range map[string]error{
		"Up": migrations.Up(t.Context(), db.Pool, config), "Down": migrations.Down(t.Context(), db.Pool, config),
	} {
		if err == nil || !strings.Contains(err.Error(), "another goose") {
			t.Errorf("%s of tables that another goose made returns %v, want an error that says so", what, err)
		}
	}
	must(t, migrations.Check(t.Context(), db.Pool, config)) // neither has changed anything

	_, err = provider.DownTo(t.Context(), 0)
	must(t, err)
	must(t, migrations.Down(t.Context(), db.Pool, config)) // removes River's tables and the schema
	if left := catalogue(t, db.Pool, db.Schema); len(left) > 0 {
		t.Errorf("the objects left are %v, want none", left)
	}
}
