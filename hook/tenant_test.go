package hook_test

import (
	"regexp"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestATenantIsNamedByAHeaderOrAFunction: a name that no tenant can have does not keep the run from ending.
func TestATenantIsNamedByAHeaderOrAFunction(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	ofRun := func(o outbox.RunOutcome) string { return o.Headers["account"] }
	byHeader, byFunction := hook.WebhookConfig{TenantHeader: "tenant"}, hook.WebhookConfig{TenantHeader: "tenant", TenantOf: ofRun}
	for runID, run := range map[string]struct {
		config  hook.WebhookConfig
		headers map[string]string
		want    string
	}{
		"no header and no function":   {hook.WebhookConfig{}, map[string]string{"tenant": "acme"}, `^$`},
		"a header without a name":     {hook.WebhookConfig{}, map[string]string{"": "acme"}, `^$`},
		"by the header":               {byHeader, map[string]string{"tenant": "acme"}, `^acme$`},
		"a header's case counts":      {byHeader, map[string]string{"Tenant": "acme"}, `^$`},
		"without the header":          {byHeader, nil, `^$`},
		"by the function":             {byFunction, map[string]string{"tenant": "acme", "account": "7"}, `^7$`},
		"the function returns none":   {byFunction, map[string]string{"tenant": "acme"}, `^acme$`},
		"not a tenant's name":         {byHeader, map[string]string{"tenant": "Acme GmbH"}, `^invalid-[0-9a-f]{16}$`},
		"not a tenant's name, binary": {byHeader, map[string]string{"tenant": "\xff\x00"}, `^invalid-[0-9a-f]{16}$`},
	} {
		d := endOne(t, db, newHook(t, db, run.config), outcomeWith(runID, run.headers))
		got := one[string](t, db.Pool, "SELECT coalesce(tenant, '') FROM "+db.Schema+".message WHERE id = $1", d.ID)
		if !regexp.MustCompile(run.want).MatchString(got) {
			t.Errorf("%s: the tenant is %q, want %s", runID, got, run.want)
		}
	}
}
