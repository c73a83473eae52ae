package migrations_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

// A claim locks endpoint and then message. It would deadlock with a migration that locks message and then waits for endpoint.
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
