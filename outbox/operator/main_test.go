package operator_test

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestMain(m *testing.M) { testdb.Main(m) }

var must = fixture.Must

// receiver is the endpoint of [fixture.Message]; other is the URL of another one.
const (
	receiver = "https://receiver.example"
	other    = "https://other.example/hook"
)

// of is a message of a tenant.
func of(tenant string) outbox.Message {
	m := fixture.Message("run of " + tenant)
	m.Tenant = tenant
	return m
}

func ofTenant(t *testing.T, db *testdb.DB, tenant string) *operator.Store {
	t.Helper()
	s, err := fixture.Store(t, db).OfTenant(tenant)
	must(t, err)
	return s
}
