package migrations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestCheckSaysHowFarTheSchemaIsAndWhatToDo(t *testing.T) {
	t.Parallel()
	latest := migrations.Latest()
	setVersion := func(schema string, version int64) string {
		return fmt.Sprintf("CREATE OR REPLACE FUNCTION %s.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT %d'", schema, version)
	}
	for name, c := range map[string]struct {
		change   func(schema string) string
		want     error
		mentions string
	}{
		"as it should be": {func(string) string { return "SELECT" }, nil, ""},
		"no schema":       {func(s string) string { return "DROP SCHEMA " + s + " CASCADE" }, migrations.ErrNotMigrated, "migrate up"},
		"a schema without an outbox": {
			func(s string) string { return "DROP SCHEMA " + s + " CASCADE; CREATE SCHEMA " + s }, migrations.ErrNotMigrated, "no outbox",
		},
		"newer": {func(s string) string { return setVersion(s, latest+1) }, migrations.ErrNewer, fmt.Sprintf("version %d", latest+1)},
		"older": {func(s string) string { return setVersion(s, latest-1) }, migrations.ErrNotMigrated, "migrate up"},
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
	db := testdb.New(t)
	config := migrations.Config{Schema: db.Schema}
	execute(t, db.Pool, "INSERT INTO "+db.Schema+".goose_db_version (version_id, is_applied) VALUES ($1, true)", migrations.Latest()+1)
	before := catalogue(t, db.Pool, db.Schema)
	for what, err := range map[string]error{
		"Up": migrations.Up(t.Context(), db.Pool, config), "Down": migrations.Down(t.Context(), db.Pool, config),
	} {
		if !errors.Is(err, migrations.ErrNewer) {
			t.Errorf("%s returns %v", what, err)
		}
	}
	mustBeSame(t, before, catalogue(t, db.Pool, db.Schema))
}

func TestStatusCountsTheVersions(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	config := migrations.Config{Schema: db.Schema}
	latest := int(migrations.Latest())
	for _, want := range []migrations.Versions{
		{Outbox: 0, OutboxLatest: latest, RiverPending: true},
		{Outbox: latest, OutboxLatest: latest, RiverPending: false},
	} {
		got, err := migrations.Status(t.Context(), db.Pool, config)
		must(t, err)
		if got != want {
			t.Errorf("Status returns %+v, want %+v", got, want)
		}
		must(t, migrations.Up(t.Context(), db.Pool, config))
	}
}
