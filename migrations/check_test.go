package migrations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestCheckSaysWhatTheSchemaLacksAndWhatToDo(t *testing.T) {
	t.Parallel()
	latest := migrations.Latest()
	setVersion := func(schema string, version int64) string {
		return fmt.Sprintf("CREATE OR REPLACE FUNCTION %s.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT %d'", schema, version)
	}
	compatibleFrom := func(schema string, version int64) string {
		return strings.ReplaceAll(setVersion(schema, version), ".version()", ".compatible_from()")
	}
	for name, c := range map[string]struct {
		change   func(schema string) string
		want     error
		mentions string
	}{
		"up to date": {func(string) string { return "SELECT" }, nil, ""},
		"no schema":  {func(s string) string { return "DROP SCHEMA " + s + " CASCADE" }, migrations.ErrNotMigrated, "migrate up"},
		"a schema without an outbox": {
			func(s string) string { return "DROP SCHEMA " + s + " CASCADE; CREATE SCHEMA " + s }, migrations.ErrNotMigrated, "no outbox",
		},
		"newer, and compatible": {func(s string) string { return setVersion(s, latest+1) + ";" + compatibleFrom(s, latest) }, nil, ""},
		"newer, and not": {
			func(s string) string { return setVersion(s, latest+2) + ";" + compatibleFrom(s, latest+1) },
			migrations.ErrNewer, fmt.Sprintf("version %d", latest+2),
		},
		"newer, without compatible_from": {
			func(s string) string {
				return setVersion(s, latest+1) + "; DROP FUNCTION " + s + ".compatible_from()"
			}, migrations.ErrNewer, fmt.Sprintf("version %d", latest+1),
		},
		"older, compatible": {
			func(s string) string {
				return setVersion(s, migrations.Needed) + "; DROP FUNCTION " + s + ".compatible_from()"
			}, nil, "",
		},
		"too old": {func(s string) string { return setVersion(s, migrations.Needed-1) }, migrations.ErrNotMigrated, "migrate up"},
		"River missing": {
			func(s string) string { return "DROP TABLE " + s + ".river_migration" }, migrations.ErrNotMigrated, "River",
		},
		"River old": {
			func(s string) string {
				return "DELETE FROM " + s + ".river_migration WHERE version = (SELECT max(version) FROM " + s + ".river_migration)"
			}, migrations.ErrNotMigrated, "River",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			execute(t, db.Pool, c.change(db.Schema))
			err := migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema})
			if c.want == nil {
				must(t, err)
				return
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.mentions) || !strings.Contains(err.Error(), db.Schema) {
				t.Errorf("Check returns %v; want %v with %q", err, c.want, c.mentions)
			}
		})
	}
}

func TestUpAndDownLeaveANewerSchemaAsItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		compatibleFrom int64
		up             error
	}{
		"that works with this program": {migrations.Latest(), nil},
		"that does not work":           {migrations.Latest() + 1, migrations.ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			config := migrations.Config{Schema: db.Schema}
			execute(t, db.Pool, "INSERT INTO "+db.Schema+".goose_db_version (version_id, is_applied) VALUES ($1, true)", migrations.Latest()+1)
			execute(t, db.Pool, fmt.Sprintf("CREATE OR REPLACE FUNCTION %s.compatible_from() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT %d'",
				db.Schema, c.compatibleFrom))
			before := catalogue(t, db.Pool, db.Schema)
			if err := migrations.Up(t.Context(), db.Pool, config); !errors.Is(err, c.up) {
				t.Errorf("Up returns %v, want %v", err, c.up)
			}
			if err := migrations.Down(t.Context(), db.Pool, config); !errors.Is(err, migrations.ErrNewer) {
				t.Errorf("Down returns %v, want ErrNewer", err)
			}
			mustBeSame(t, before, catalogue(t, db.Pool, db.Schema))
		})
	}
}

func TestStatusCountsTheVersions(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	config := migrations.Config{Schema: db.Schema}
	latest := int(migrations.Latest())
	for _, want := range []migrations.Versions{
		{Outbox: 0, OutboxLatest: latest, OutboxNeeded: migrations.Needed, RiverPending: true},
		{Outbox: latest, CompatibleFrom: 2, OutboxLatest: latest, OutboxNeeded: migrations.Needed, RiverPending: false},
	} {
		got, err := migrations.Status(t.Context(), db.Pool, config)
		must(t, err)
		if got != want {
			t.Errorf("Status returns %+v, want %+v", got, want)
		}
		must(t, migrations.Up(t.Context(), db.Pool, config))
	}
}

// A database with another encoding cannot store every text of a run. The start must fail, not the first such run.
func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		name := strings.ToLower(encoding)
		admin := testdb.NewEmptyAt(t, server.URL())
		execute(t, admin.Pool, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
		pool := admin.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.Database = name })
		config := migrations.Config{Schema: "outbox"}
		_, statusErr := migrations.Status(t.Context(), pool, config)
		for what, err := range map[string]error{
			"Up": migrations.Up(t.Context(), pool, config), "Check": migrations.Check(t.Context(), pool, config), "Status": statusErr,
		} {
			if !errors.Is(err, migrations.ErrEncoding) || !strings.Contains(err.Error(), encoding) {
				t.Errorf("%s of a %s database returns %v, want ErrEncoding that names it", what, encoding, err)
			}
		}
		if n := one[int](t, pool, "SELECT count(*) FROM pg_namespace WHERE nspname = 'outbox'"); n > 0 {
			t.Error("the schema was created, want that nothing is written")
		}
	}
}
