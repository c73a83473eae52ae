package outbox_test

import (
	"database/sql"
	"testing"

	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func TestMain(m *testing.M) { testdb.Main(m) }

var must = fixture.Must

func openPQ(t *testing.T, db *testdb.DB) *sql.DB {
	t.Helper()
	conn, err := sql.Open("postgres", db.URL)
	must(t, err)
	return conn
}
