package outbox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func TestAMessageThatNamesItsTenantWaitsInTheTenantsOwnLane(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for runID, tenant := range map[string]string{"run": "", "run of acme": "acme", "Lauf für acme": "acme"} { // the last one goes as bytes
		m := fixture.Message(runID)
		m.Tenant = tenant
		fixture.Write(t, db, m)
	}
	const query = `SELECT string_agg(m.run_id || ': ' || coalesce(m.tenant, '-') || ' in ' || d.endpoint, ', ' ORDER BY m.run_id COLLATE "C")
FROM %[1]s.message m JOIN %[1]s.due d ON d.message_id = m.id`
	endpoint, err := outbox.CheckURL(fixture.Message("run").URL)
	must(t, err)
	want := strings.ReplaceAll("Lauf für acme: acme in E acme, run: - in E, run of acme: acme in E acme", "E", endpoint)
	if got := fixture.One[string](t, db.Pool, fmt.Sprintf(query, db.Schema)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestADeadMessageKeepsItsTenant(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	m := fixture.Message("run")
	m.Tenant, m.URL = "acme", "ftp://éxample.com/"
	fixture.Write(t, db, m)
	if got := fixture.One[string](t, db.Pool, fmt.Sprintf(`SELECT m.tenant || ': ' || x.reason FROM %[1]s.message m JOIN %[1]s.dead x ON x.message_id = m.id`, db.Schema)); got != "acme: invalid" {
		t.Error(got)
	}
}

func TestANameThatNoTenantCanHaveIsTheCallersError(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w := fixture.Writer(t, db)
	for _, tenant := range []string{"two words", "é", "tab\t", strings.Repeat("a", lane.TenantBytesMax+1)} {
		m := fixture.Message("run")
		m.Tenant = tenant
		_, err := w.Insert(t.Context(), fixture.Begin(t, db.Pool), m)
		if !errors.Is(err, outbox.ErrInvalidOutcome) || !strings.Contains(err.Error(), "Tenant") {
			t.Errorf("%q: %v", tenant, err)
		}
	}
}

func TestATenantOnTablesThatAreTooOldSaysToMigrate(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	fixture.Execute(t, db, "ALTER TABLE %s.message DROP COLUMN tenant CASCADE", db.Schema)
	fixture.Write(t, db, fixture.Message("without a tenant"))
	m := fixture.Message("run")
	m.Tenant = "acme"
	if _, err := fixture.Writer(t, db).Insert(t.Context(), fixture.Begin(t, db.Pool), m); err == nil || !strings.Contains(err.Error(), "migrate up") {
		t.Errorf("the error is %v", err)
	}
}
