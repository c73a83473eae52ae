package outboxtest_test

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

func TestTheExampleOfAServicesTestRuns(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	orderArrives(t, db.Pool, db.Schema)
}
