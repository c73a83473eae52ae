package migrations_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

// A claim that is planned anew locks endpoint and then message. It would deadlock with a migration that locks message and then waits for endpoint.
func TestAMigrationThatWaitsForEndpointHasNotLockedMessage(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	before, err := migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, To: 5}.SQL()
	must(t, err)
	after, err := migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, From: 5}.SQL()
	must(t, err)
	_, err = db.Pool.Exec(t.Context(), before, pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	claim, err := db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = claim.Rollback(t.Context()) }()
	_, err = claim.Exec(t.Context(), "LOCK TABLE "+db.Schema+".endpoint IN ROW EXCLUSIVE MODE")
	must(t, err)

	pool := db.NewPool(t, nil)
	done := make(chan error, 1)
	migrate := func() {
		_, err := pool.Exec(t.Context(), after, pgx.QueryExecModeSimpleProtocol)
		done <- err
	}
	go migrate()
	for waiting := false; !waiting; time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-done:
			if err == nil {
				t.Fatal("the migration did not wait for endpoint")
			}
			go migrate() // it gave up after its two seconds, before the test saw it wait
		default:
		}
		must(t, db.Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::regclass AND NOT granted)", db.Schema+".endpoint").Scan(&waiting))
	}
	if _, err := claim.Exec(t.Context(), "LOCK TABLE "+db.Schema+".message IN ACCESS SHARE MODE NOWAIT"); err != nil {
		t.Errorf("the table message is locked, want it free: %v", err)
	}
	must(t, claim.Rollback(t.Context()))
	<-done // the migration is done, or has given up after its two seconds
}

// A claim whose plan is cached locks message and then endpoint, which is the other order.
func TestAMigrationThatIsSacrificedToAnotherTransactionIsMadeAgain(t *testing.T) {
	t.Parallel()
	for range 5 { // on a busy machine the migration can give up waiting before the deadlock is there
		if strings.Contains(upAgainst(t, "message", "endpoint"), "40P01") {
			return
		}
	}
	t.Error("no migration was ended by a deadlock")
}

// upAgainst migrates while another transaction locks the first table, and the second once the migration waits for the
// first. It returns the migration's log.
func upAgainst(t *testing.T, first, second string) string {
	t.Helper()
	db := testdb.NewEmpty(t)
	upTo(t, db, 5)
	other, err := db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = other.Rollback(context.WithoutCancel(t.Context())) }()
	lock := func(sql string) {
		_, err := other.Exec(t.Context(), sql)
		must(t, err)
	}
	lock("SET LOCAL deadlock_timeout = '1 min'") // so that Postgres ends the migration, and not this transaction
	lock("LOCK TABLE " + db.Schema + "." + first + " IN ACCESS SHARE MODE")

	var log bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	}()
	for waiting := false; !waiting; time.Sleep(5 * time.Millisecond) {
		must(t, db.Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::regclass AND NOT granted)",
			db.Schema+"."+first).Scan(&waiting))
	}
	lock("LOCK TABLE " + db.Schema + "." + second + " IN ROW EXCLUSIVE MODE")
	must(t, other.Commit(t.Context()))
	must(t, <-done)
	must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
	return log.String()
}
