package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestMigrateGoesUpAndDownAndSaysWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	env := environment(db)
	invoke(t, env, "migrate", "status").wants(t, exitNotMigrated, "missing or old", "run 'outbox-worker migrate up'")
	invoke(t, env, "migrate", "down").wants(t, exitUsage, "holds no outbox")
	for _, args := range [][]string{{"status"}, {"list"}, {"cancel", unknownID}, {"run"}} {
		invoke(t, env, args...).wants(t, exitNotMigrated, "not migrated", "outbox-worker migrate up")
	}
	for range 2 {
		invoke(t, env, "migrate", "up").wants(t, exitOK, "is up to date: version")
	}
	got := invoke(t, env, "migrate", "status", "--json")
	got.wants(t, exitOK)
	v := decoded[struct {
		Schema string `json:"schema"`
		migrations.Versions
	}](t, got)
	if v.Schema != db.Schema || v.Outbox != v.OutboxLatest || v.RiverPending {
		t.Errorf("got %+v, want the schema's name, the newest version, and nothing pending", v)
	}
	written(t, db, outbox.Message{Outcome: testdb.Outcome("r", endpointA), URL: endpointA})
	invoke(t, env, "migrate", "down").wants(t, exitUsage, "would lose 1 message in schema "+db.Schema+": 1 still to be delivered, 0 dead")
	invoke(t, env, "migrate", "down", "--yes").wants(t, exitOK, "the outbox is removed")
	invoke(t, env, "migrate", "status").wants(t, exitNotMigrated)
}

// The next release has migrated already. This release continues to work until it is replaced.
func TestAWorkerWorksOnANewerCompatibleSchema(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	execute(t, db, fmt.Sprintf(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT %d'`, migrations.Latest()+1))
	execute(t, db, fmt.Sprintf(`INSERT INTO outbox.goose_db_version (version_id, is_applied) VALUES (%d, true)`, migrations.Latest()+1))
	for _, args := range [][]string{{"status"}, {"migrate", "status"}, {"list"}, {"pause", endpointA}} {
		invoke(t, environment(db), args...).wants(t, exitOK)
	}
	invoke(t, environment(db), "migrate", "up").wants(t, exitOK, "left as it is", fmt.Sprintf("version %d", migrations.Latest()+1))
	invoke(t, environment(db), "cancel", unknownID).wants(t, exitNotFound)
}

// This release has not migrated yet, or its migration waits. It works on the schema of the release before.
func TestAWorkerWorksOnTheSchemaOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	text := invoke(t, environment(db), "migrate", "sql", "--line", "outbox", "--to", fmt.Sprint(migrations.Needed))
	text.wants(t, exitOK)
	if _, err := db.Pool.Exec(t.Context(), text.stdout); err != nil {
		t.Fatal(err)
	}
	if err := migrations.UpRiver(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}); err != nil {
		t.Fatal(err)
	}
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("r", endpointA), URL: endpointA}).String()
	for _, args := range [][]string{
		{"status"}, {"migrate", "status"}, {"list"}, {"show", id}, {"pause", endpointA}, {"resume", endpointA},
		{"limit", endpointA, "--rate", "5"}, {"cancel", id}, {"replay", id}, {"replay", id}, {"cancel", id}, {"replay", id, "--url", endpointB},
	} {
		invoke(t, environment(db), args...).wants(t, exitOK)
	}
}

func TestMigrateSQLPrintsWhatAnotherToolRuns(t *testing.T) {
	t.Parallel()
	env := []string{"OUTBOX_SCHEMA=billing"}
	for _, c := range []struct {
		args   []string
		status int
		has    []string
		hasNot []string
	}{
		{nil, exitOK, []string{"CREATE TABLE billing.message", "billing.river_job", "BEGIN;", "COMMIT;", "to version 1"}, []string{"outbox.message", "+goose", "DROP TABLE billing.message"}},
		{[]string{"--line", "outbox", "--from", "2"}, exitOK, []string{"to version 3", "to version 4", "to version 5"}, []string{"to version 2", "river_job"}},
		{[]string{"--line", "river", "--from", "6", "--to", "7"}, exitOK, []string{"to version 7", "'main', 7"}, []string{"version 8", "billing.message"}},
		{[]string{"--down", "--line", "outbox", "--to", "2"}, exitOK, []string{"back from version 5", "back from version 4", "back from version 3"}, []string{"from version 2"}},
		{[]string{"--down"}, exitOK, []string{"DROP TABLE billing.message", "-- DROP SCHEMA billing;"}, nil},
		{[]string{"--schema", "other", "--line", "river", "--to", "4", "--bare"}, exitOK, []string{"other.river_job"}, []string{"BEGIN;", "COMMIT;"}},
		{[]string{"--from", "2"}, exitUsage, []string{"--line outbox or --line river"}, nil},
		{[]string{"--line", "outbox", "--from", "999"}, exitUsage, []string{fmt.Sprint("0 to ", migrations.Latest())}, nil},
		{[]string{"--bare"}, exitUsage, []string{"a transaction of its own"}, nil},
	} {
		got := invoke(t, env, append([]string{"migrate", "sql"}, c.args...)...)
		got.wants(t, c.status, c.has...)
		for _, text := range c.hasNot {
			if strings.Contains(got.stdout, text) {
				t.Errorf("migrate sql %v prints %q, want it left out", c.args, text)
			}
		}
	}
}

func TestCommandsRefuseAnIncompatibleNewerSchema(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	execute(t, db, `CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9999'`)
	execute(t, db, `CREATE OR REPLACE FUNCTION outbox.compatible_from() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9999'`)
	for _, args := range [][]string{{"status"}, {"migrate", "status"}, {"cancel", unknownID}, {"run"}} {
		invoke(t, environment(db), args...).wants(t, exitNotMigrated, "migrated by a newer version", "9999")
	}
}
