package main

import (
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
		t.Errorf("got %+v", v)
	}
	written(t, db, outbox.Message{Outcome: testdb.Outcome("r", endpointA), URL: endpointA})
	invoke(t, env, "migrate", "down").wants(t, exitUsage, "would lose 1 message in schema "+db.Schema+": 1 still to be delivered, 0 dead")
	invoke(t, env, "migrate", "down", "--yes").wants(t, exitOK, "the outbox is removed")
	invoke(t, env, "migrate", "status").wants(t, exitNotMigrated)
}

func TestANewerSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	execute(t, db, `CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9999'`)
	for _, args := range [][]string{{"status"}, {"migrate", "status"}, {"cancel", unknownID}, {"run"}} {
		invoke(t, environment(db), args...).wants(t, exitNotMigrated, "migrated by a newer version", "9999")
	}
}
