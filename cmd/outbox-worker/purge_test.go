package main

import (
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// kept is how many messages list prints.
func kept(t *testing.T, db *testdb.DB) int { t.Helper(); return len(states(t, db)) }

func TestAPurgeCountsAsksAndErases(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	env := environment(db)
	written(t, db, ofTenant("acme", "r1"))
	written(t, db, ofTenant("acme", "r2"))
	written(t, db, ofTenant("other", "r1"))
	invoke(t, env, "purge", "--tenant", "acme", "--dry-run").wants(t, exitOK, "would be erased of tenant acme:\n", "  messages              2\n", "  due                   2\n")
	for _, answer := range []string{"", "\n", "no\n", "y\n"} {
		invokeWith(t, env, answer, "purge", "--tenant", "acme").wants(t, exitUsage, "  messages              2\n", "nothing was erased")
	}
	if n := kept(t, db); n != 3 {
		t.Fatalf("%d messages are left, want all 3", n)
	}
	invokeWith(t, env, "yes\n", "purge", "--tenant", "acme", "--run-id", "r1").wants(t, exitOK, "Erase all that is kept of run r1 of tenant acme?", "erased of run r1 of tenant acme:\n  messages              1\n")
	got := invoke(t, env, "purge", "--tenant", "acme", "--yes", "--json")
	got.wants(t, exitOK)
	v := decoded[struct {
		Tenant string `json:"tenant"`
		DryRun bool   `json:"dry_run"`
		operator.PurgeCounts
	}](t, got)
	if v.Tenant != "acme" || v.DryRun || v.Messages != 1 || v.Left != 0 || kept(t, db) != 1 {
		t.Errorf("got %+v, and %d messages are left; want one erased, and one left", v, kept(t, db))
	}
	invoke(t, env, "purge", "--tenant", "acme", "--yes").wants(t, exitNotFound, "nothing is kept of tenant acme")
	invoke(t, env, "purge", "--run-id", "r1", "--yes").wants(t, exitOK, "erased of run r1:")
	if n := kept(t, db); n != 0 {
		t.Errorf("%d messages are left, want none", n)
	}
}

func TestAPurgeThatLeavesAMessageFailsAndSaysSo(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	written(t, db, ofTenant("acme", "r"))
	execute(t, db, "UPDATE outbox.due SET locked_by = 'w', locked_until = now() + interval '1 h'")
	invoke(t, environment(db), "purge", "--tenant", "acme", "--yes", "--wait", "0s").wants(t, exitFailed, "1 message is left: still being delivered", "run the purge again")
	if n := kept(t, db); n != 1 {
		t.Errorf("%d messages are left, want 1", n)
	}
}

func TestAPurgeNeedsATenantOrARun(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"": "--tenant TENANT or --run-id RUN", "--tenant a --dry-run --yes": "--dry-run erases nothing", "--tenant a --wait 2h": "want 0s to 1h",
	} {
		invoke(t, []string{goodURL}, append([]string{"purge"}, strings.Fields(args)...)...).wants(t, exitUsage, want)
	}
}
