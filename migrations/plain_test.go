package migrations_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func plain(t *testing.T, p migrations.Plan) string {
	t.Helper()
	text, err := p.SQL()
	must(t, err)
	if strings.Contains(text, "+goose") || strings.Contains(text, "TEMPLATE") {
		t.Errorf("the SQL contains marks of goose or River, want none:\n%s", text)
	}
	return text
}

// send sends the whole text as one simple query, as psql -c, golang-migrate and others do.
func send(t *testing.T, db *testdb.DB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	must(t, err)
	defer func() { must(t, conn.Close(t.Context())) }()
	_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	must(t, err)
}

// columnsOf lists the columns of all tables with their properties, and River's record of its versions.
func columnsOf(t *testing.T, db *testdb.DB) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), strings.ReplaceAll(`SELECT concat_ws(' ', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod),
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), c.reloptions)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'SCHEMA'::regnamespace AND NOT a.attisdropped
UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'SCHEMA'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid WHERE c.relnamespace = 'SCHEMA'::regnamespace
UNION ALL SELECT 'valid ' || conname || ' ' || convalidated FROM pg_constraint WHERE connamespace = 'SCHEMA'::regnamespace
UNION ALL SELECT 'river ' || line || ' ' || version FROM SCHEMA.river_migration`, "SCHEMA", db.Schema))
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return append(list, catalogue(t, db.Pool, db.Schema)...)
}

// sameAsUp compares a schema with one that Up made, without goose's own record of versions, which other tools do not make.
func sameAsUp(t *testing.T, db *testdb.DB) {
	t.Helper()
	neutral := func(db *testdb.DB) (list []string) {
		for _, line := range columnsOf(t, db) {
			if !strings.Contains(line, "goose_db_version") {
				list = append(list, strings.ReplaceAll(line, db.Schema, "SCHEMA"))
			}
		}
		return list
	}
	mustBeSame(t, neutral(migrated(t)), neutral(db))
	must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
}

// migrated returns a schema that Up made, where testdb.New takes a shorter way.
func migrated(t *testing.T) *testdb.DB {
	t.Helper()
	db := testdb.NewEmpty(t)
	up(t, db)
	return db
}

func TestTheSchemaOfATestIsWhatUpMakes(t *testing.T) {
	t.Parallel()
	all := func(db *testdb.DB) (list []string) {
		rows, err := db.Pool.Query(t.Context(), "SELECT id, version_id, is_applied FROM "+db.Schema+".goose_db_version ORDER BY id")
		must(t, err)
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			values, err := row.Values()
			return fmt.Sprint("goose ", values), err
		})
		must(t, err)
		for _, line := range columnsOf(t, db) {
			list = append(list, strings.ReplaceAll(line, db.Schema, "SCHEMA"))
		}
		return list
	}
	mustBeSame(t, all(migrated(t)), all(testdb.New(t)))
}

func TestPlainSQLMakesTheSameTablesAsUp(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(*testing.T, *testdb.DB){
		"as one simple query": func(t *testing.T, db *testdb.DB) { send(t, db, plain(t, migrations.Plan{Schema: db.Schema})) },
		"by psql": func(t *testing.T, db *testdb.DB) {
			psql, err := exec.LookPath("psql")
			if err != nil {
				t.Skip("psql is not on the PATH")
			}
			file := filepath.Join(t.TempDir(), "outbox.sql")
			must(t, os.WriteFile(file, []byte(plain(t, migrations.Plan{Schema: db.Schema})), 0o600))
			out, err := exec.CommandContext(t.Context(), psql, "-X", "-v", "ON_ERROR_STOP=1", "-f", file, db.URL).CombinedOutput()
			if err != nil {
				t.Fatalf("psql returns %v, want no error: %s", err, out)
			}
		},
		"bare, in a transaction of the tool": func(t *testing.T, db *testdb.DB) {
			for _, part := range []migrations.Plan{{Line: migrations.LineOutbox}, {Line: migrations.LineRiver, To: 4}, {Line: migrations.LineRiver, From: 4}} {
				part.Schema, part.Bare = db.Schema, true
				send(t, db, "BEGIN; "+plain(t, part)+"; COMMIT")
			}
		},
		"version by version": func(t *testing.T, db *testdb.DB) {
			for line, newest := range map[string]int{migrations.LineOutbox: int(migrations.Latest()), migrations.LineRiver: 8} {
				for v := range newest {
					send(t, db, plain(t, migrations.Plan{Schema: db.Schema, Line: line, From: v, To: v + 1}))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.NewEmpty(t)
			execute(t, db.Pool, "CREATE SCHEMA "+db.Schema)
			run(t, db)
			sameAsUp(t, db)
		})
	}
}

func TestPlainSQLForDownRemovesEverything(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	send(t, db, plain(t, migrations.Plan{Schema: db.Schema}))
	send(t, db, plain(t, migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, From: int(migrations.Latest()), To: 2, Down: true}))
	if v := one[int](t, db.Pool, "SELECT "+db.Schema+".version()"); v != 2 {
		t.Errorf("the version is %d, want 2", v)
	}
	send(t, db, plain(t, migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, From: 2}))
	sameAsUp(t, db)
	send(t, db, plain(t, migrations.Plan{Schema: db.Schema, Down: true}))
	if left := catalogue(t, db.Pool, db.Schema); len(left) > 0 {
		t.Errorf("the objects left are %v, want none", left)
	}
}

func TestUpDoesNotMigrateTablesThatPlainSQLMade(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	send(t, db, plain(t, migrations.Plan{Schema: db.Schema}))
	before := columnsOf(t, db)
	for what, err := range map[string]error{
		"Up":   migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}),
		"Down": migrations.Down(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}),
	} {
		if err == nil || !strings.Contains(err.Error(), "migrate sql") {
			t.Errorf("%s returns %v, want an error that names migrate sql", what, err)
		}
	}
	mustBeSame(t, before, columnsOf(t, db))
}

func TestAnImpossiblePlanIsRefused(t *testing.T) {
	t.Parallel()
	latest := int(migrations.Latest())
	for _, p := range []migrations.Plan{
		{Line: "both"}, {From: 1}, {To: 1}, {Line: migrations.LineOutbox, From: latest + 1}, {Line: migrations.LineOutbox, To: latest + 1},
		{Line: migrations.LineOutbox, From: 2, To: 1}, {Line: migrations.LineOutbox, From: 1, To: 2, Down: true},
		{Bare: true}, {Line: migrations.LineOutbox, From: -1}, {Line: migrations.LineRiver, To: 99}, {Schema: "public"},
	} {
		if text, err := p.SQL(); err == nil {
			t.Errorf("the SQL of %+v is %s, want an error", p, text)
		}
	}
}

// A service's own goose keeps its record of versions in a schema of its search_path. The files set their own search_path, and
// set the old one again at their end.
func TestTheFilesLeaveTheSearchPathOfAServicesGooseAsItWas(t *testing.T) {
	t.Parallel()
	db, app := testdb.NewEmpty(t), testdb.NewEmpty(t)
	execute(t, db.Pool, "CREATE SCHEMA "+app.Schema)
	url := db.URL + map[bool]string{true: "&", false: "?"}[strings.Contains(db.URL, "?")] + "search_path=" + app.Schema
	config, err := pgx.ParseConfig(url)
	must(t, err)
	conn := stdlib.OpenDB(*config)
	defer func() { must(t, conn.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.FS(db.Schema), goose.WithDisableGlobalRegistry(true))
	must(t, err)
	_, err = provider.Up(t.Context())
	must(t, err)
	if n := one[int](t, db.Pool, fmt.Sprintf("SELECT count(*) FROM %s.goose_db_version", app.Schema)); n != files(t)+1 {
		t.Errorf("the service's record has %d rows, want one more than there are files", n)
	}
	_, err = provider.DownTo(t.Context(), 0)
	must(t, err)
}

// files counts the migrations, whose numbers may have gaps.
func files(t *testing.T) int {
	t.Helper()
	list, err := fs.Glob(migrations.FS("outbox"), "*.sql")
	must(t, err)
	return len(list)
}
