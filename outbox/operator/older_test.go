package operator_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// tablesOf are those of an older version.
func tablesOf(t *testing.T, version int) *testdb.DB {
	t.Helper()
	db := testdb.NewEmpty(t)
	sql, err := migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, To: version}.SQL()
	must(t, err)
	_, err = db.Pool.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	return db
}

func TestTheStoreWorksOnTablesThatKnowNoTenants(t *testing.T) {
	t.Parallel()
	db := tablesOf(t, 5)
	operate(t, db)
	oneOfEach(t, db)
	s := fixture.Store(t, db)
	must(t, s.Pause(t.Context(), receiver, "maintenance"))
	_, err := s.Endpoints(t.Context(), 0)
	must(t, err)
	_, err = s.List(t.Context(), operator.Filter{})
	must(t, err)
	_, err = s.Known(t.Context(), receiver)
	must(t, err)
	_, err = s.CancelDue(t.Context(), receiver, "")
	must(t, err)
	_, err = s.Resume(t.Context(), receiver)
	must(t, err)
	acme := ofTenant(t, db, "acme")
	_, list := acme.List(t.Context(), operator.Filter{})
	_, endpoints := acme.Endpoints(t.Context(), 0)
	_, overview := acme.Overview(t.Context())
	_, _, tenants := s.Tenants(t.Context(), 0)
	for what, err := range map[string]error{"list": list, "endpoints": endpoints, "overview": overview, "tenants": tenants, "pause": acme.Pause(t.Context(), receiver, "")} {
		if !errors.Is(err, operator.ErrNoTenants) || !strings.Contains(err.Error(), "migrate up") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTablesThatCountAllAreReadToo(t *testing.T) {
	t.Parallel()
	db := tablesOf(t, 8)
	fixture.Write(t, db, of("acme"))
	inState(t, db, outbox.StateDead, of("acme"))
	s := fixture.Store(t, db)
	endpoints, err := s.Endpoints(t.Context(), 0)
	must(t, err)
	tenants, _, err := s.Tenants(t.Context(), 0)
	must(t, err)
	states, err := ofTenant(t, db, "acme").Overview(t.Context())
	must(t, err)
	if len(endpoints) != 2 || len(tenants) != 1 || tenants[0].Waiting != 1 || tenants[0].Dead != 1 || states[0].Messages != 1 {
		t.Errorf("%+v; %+v; %+v", endpoints, tenants, states)
	}
}
