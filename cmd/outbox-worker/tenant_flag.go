package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// tenantName is a tenant as the value of a flag.
type tenantName string

var wantTenant = "the name of a tenant: printable ASCII without spaces, 128 characters at most"

func (t *tenantName) Type() string { return "tenant" }

func (t *tenantName) String() string { return string(*t) }

func (t *tenantName) Set(text string) error {
	*t = tenantName(text)
	return outbox.CheckTenant(text)
}

func tenantFlag(cmd *cobra.Command, to *tenantName, what string) {
	cmd.Flags().Var(to, "tenant", what)
}

// storeOf is the store of a tenant, or of all when none is named.
func (p *program) storeOf(ctx context.Context, tenant tenantName) (*operator.Store, error) {
	store, err := p.store(ctx)
	if err != nil || tenant == "" {
		return store, err
	}
	return store.OfTenant(string(tenant))
}

// at returns the name of an endpoint, or of a tenant at it, for output.
func (t tenantName) at(endpoint string) string {
	if t == "" {
		return endpoint
	}
	return endpoint + " of tenant " + string(t)
}

// warnUnknown warns when no message goes to an endpoint, which may be mistyped.
func (p *program) warnUnknown(ctx context.Context, store *operator.Store, endpoint string, tenant tenantName) error {
	known, err := store.Known(ctx, endpoint)
	if err == nil && !known {
		p.say("warning: no message that waits, and none of the newest, goes to %s: check the spelling", tenant.at(endpoint))
	}
	return err
}
