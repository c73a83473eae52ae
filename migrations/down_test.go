package migrations_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestDownLeavesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	config := migrations.Config{Schema: db.Schema}
	namespace := one[uint32](t, db.Pool, "SELECT oid FROM pg_namespace WHERE nspname = $1", db.Schema)
	enums := oids(t, db, "SELECT DISTINCT enumtypid FROM pg_enum JOIN pg_type t ON t.oid = enumtypid WHERE typnamespace = $1", namespace)
	if len(enums) == 0 {
		t.Error("River has no enum any more, so the test of enum labels proves nothing")
	}
	must(t, migrations.Down(t.Context(), db.Pool, config))
	for _, left := range []struct{ what, sql string }{
		{"schemas", "SELECT count(*) FROM pg_namespace WHERE oid = $1"},
		{"relations", "SELECT count(*) FROM pg_class WHERE relnamespace = $1"},
		{"functions", "SELECT count(*) FROM pg_proc WHERE pronamespace = $1"},
		{"types", "SELECT count(*) FROM pg_type WHERE typnamespace = $1"},
		{"constraints", "SELECT count(*) FROM pg_constraint WHERE connamespace = $1"},
		{"operators", "SELECT count(*) FROM pg_operator WHERE oprnamespace = $1"},
	} {
		if n := one[int](t, db.Pool, left.sql, namespace); n > 0 {
			t.Errorf("%d %s are left, want none", n, left.what)
		}
	}
	if n := one[int](t, db.Pool, "SELECT count(*) FROM pg_enum WHERE enumtypid = ANY ($1)", enums); n > 0 {
		t.Errorf("%d enum labels are left, want none", n)
	}
	if err := migrations.Check(t.Context(), db.Pool, config); !errors.Is(err, migrations.ErrNotMigrated) {
		t.Errorf("Check returns %v, want ErrNotMigrated", err)
	}
}

func TestDownWithoutASchemaIsNoError(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	for range 2 {
		must(t, migrations.Down(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
	}
}

func TestUpAfterDownMakesTheSameSchema(t *testing.T) {
	t.Parallel()
	db, alone := testdb.New(t), testdb.New(t)
	must(t, migrations.Down(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
	up(t, db)
	sameBut(t, db, alone)
}

func TestDownKeepsASchemaWithObjectsOfOthers(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	execute(t, db.Pool, "CREATE TABLE "+db.Schema+".theirs (n int); INSERT INTO "+db.Schema+".theirs VALUES (1)")
	var log bytes.Buffer
	config := migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	must(t, migrations.Down(t.Context(), db.Pool, config))
	want := []string{"class r theirs", "type _theirs", "type theirs"}
	if left := catalogue(t, db.Pool, db.Schema); !slices.Equal(left, want) {
		t.Errorf("the objects left are %v, want %v", left, want)
	}
	if n := one[int](t, db.Pool, "SELECT n FROM "+db.Schema+".theirs"); n != 1 {
		t.Errorf("the other table's row is %d, want 1", n)
	}
	if !strings.Contains(log.String(), "schema kept") {
		t.Errorf("the log is %s, want that the schema was kept", log.String())
	}
}

func TestDownStopsAtAViewOfOthersOnOurTables(t *testing.T) {
	t.Parallel()
	db, app := testdb.New(t), testdb.NewEmpty(t)
	execute(t, db.Pool, "CREATE SCHEMA "+app.Schema)
	execute(t, db.Pool, "CREATE VIEW "+app.Schema+".report AS SELECT id FROM "+db.Schema+".message")
	err := migrations.Down(t.Context(), db.Pool, migrations.Config{Schema: db.Schema})
	if err == nil || !strings.Contains(err.Error(), "message") {
		t.Errorf("Down returns %v, want an error that names message", err)
	}
	if n := one[int](t, db.Pool, "SELECT count(*) FROM "+app.Schema+".report"); n != 0 {
		t.Errorf("the view has %d rows, want it to exist without rows", n)
	}
	up(t, db) // creates again what Down has removed
	must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
}

func oids(t *testing.T, db *testdb.DB, sql string, args ...any) []uint32 {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), sql, args...)
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	must(t, err)
	return list
}
