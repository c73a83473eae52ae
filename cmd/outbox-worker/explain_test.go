package main

import (
	"context"
	"net/url"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// withSetting adds a setting to the environment's database URL.
func withSetting(t *testing.T, db *testdb.DB, change func(*url.URL)) []string {
	t.Helper()
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return append(environment(db), "OUTBOX_DATABASE_URL="+u.String())
}

func TestCommandsSayThatTheServerIsReadOnly(t *testing.T) {
	t.Parallel()
	db, empty := testdb.New(t), testdb.NewEmpty(t)
	readOnly := func(u *url.URL) {
		q := u.Query()
		q.Set("default_transaction_read_only", "on")
		u.RawQuery = q.Encode()
	}
	invoke(t, withSetting(t, db, readOnly), "pause", "https://a.test").wants(t, exitFailed, "the server is read-only", "OUTBOX_DATABASE_URL")
	invoke(t, withSetting(t, empty, readOnly), "migrate", "up").wants(t, exitFailed, "the server is read-only")
	invoke(t, withSetting(t, db, readOnly), "status").wants(t, exitOK)
	invoke(t, withSetting(t, db, func(u *url.URL) {
		q := u.Query()
		q.Set("default_transaction_read_only", "on")
		q.Set("target_session_attrs", "read-write")
		u.RawQuery = q.Encode()
	}), "status").wants(t, exitFailed, "the server is read-only")
}

func TestCommandsSayThatNoConnectionIsLeft(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	role := db.Name + "_limited"
	execute(t, db, "CREATE ROLE "+role+" LOGIN CONNECTION LIMIT 0")
	t.Cleanup(func() { _, _ = db.Pool.Exec(context.Background(), "DROP ROLE "+role) })
	env := withSetting(t, db, func(u *url.URL) { u.User = url.User(role) })
	for _, args := range [][]string{{"status"}, {"list"}, {"migrate", "up"}} {
		invoke(t, env, args...).wants(t, exitFailed, "the database has no connection left", "CONNECTION LIMIT")
	}
}

func TestCommandsSayThatATableIsMissing(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	execute(t, db, "DROP TABLE outbox.due CASCADE")
	for _, args := range [][]string{{"status"}, {"list"}} {
		invoke(t, environment(db), args...).wants(t, exitFailed, "lacks tables of the outbox", "outbox-worker migrate up", db.Schema)
	}
	invoke(t, environment(testdb.NewEmpty(t)), "status").wants(t, exitNotMigrated, "outbox-worker migrate up")
}
