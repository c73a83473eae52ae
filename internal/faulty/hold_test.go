package faulty_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
)

func TestLocksAreHeldUntilReleased(t *testing.T) {
	t.Parallel()
	db, table := newTable(t)
	release := faulty.Hold(t, db.Pool, "SELECT FROM "+table+" WHERE id = $1 FOR UPDATE", 1)
	refused := func(id int) bool {
		_, err := db.Pool.Exec(bounded(t), "SELECT FROM "+table+" WHERE id = $1 FOR UPDATE NOWAIT", id)
		var locked *pgconn.PgError
		if err != nil && !(errors.As(err, &locked) && locked.Code == "55P03") {
			t.Fatal(err)
		}
		return err != nil
	}
	if !refused(1) || refused(2) {
		t.Error("want the first row locked, and the second one not")
	}
	release()
	release()
	if refused(1) {
		t.Error("after the release the row is still locked, want it free")
	}
	faulty.Hold(t, db.Pool, "LOCK TABLE "+table) // released at the end of the test; otherwise the schema could not be dropped
}
