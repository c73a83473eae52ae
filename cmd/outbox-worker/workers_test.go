package main

import (
	"encoding/json"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// TestStatusAndWorkersShowTheWorkers: which are alive, which are gone, and why one does not deliver.
func TestStatusAndWorkersShowTheWorkers(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	env := environment(db)
	invoke(t, env, "status").wants(t, exitOK, "no worker seen")
	invoke(t, env, "workers").wants(t, exitOK, "no worker seen")
	add := func(name, seen, notReady string) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), `INSERT INTO `+db.Schema+`.worker (name, host, version, pid, backend_start, started, seen, lease_ms, in_flight, clock_ahead_ms, not_ready)
VALUES ($1, 'host', 'v1.2.3', 1, now(), now(), now() - $2::text::interval, 30000, 7, 1500, nullif($3, ''))`, name, seen, notReady)
		if err != nil {
			t.Fatal(err)
		}
	}
	add("gone/1", "4 min", "")
	invoke(t, env, "status").wants(t, exitOK, "no worker seen since 4m")
	add("one/2", "1 s", "")
	invoke(t, env, "status").wants(t, exitOK, "1 worker\n")
	add("two/3", "2 s", "no scan succeeded")
	invoke(t, env, "status").wants(t, exitOK, "2 workers; two/3 is not ready: no scan succeeded")
	invoke(t, env, "workers").wants(t, exitOK, "gone/1", "+1.5s", "v1.2.3", "ready", "not ready: no scan succeeded")
	for _, args := range [][]string{{"workers", "--json"}, {"status", "--json"}} {
		if got := invoke(t, env, args...); got.status != exitOK || !json.Valid([]byte(got.stdout)) {
			t.Errorf("%v ends with %d and prints %s %s, want 0 and JSON", args, got.status, got.stdout, got.stderr)
		}
	}
	if _, err := db.Pool.Exec(t.Context(), `DROP TABLE `+db.Schema+`.worker`); err != nil {
		t.Fatal(err)
	}
	invoke(t, env, "workers").wants(t, exitOK, "no worker seen") // as on a schema of an earlier version
}
