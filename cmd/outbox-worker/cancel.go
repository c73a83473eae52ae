package main

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func (p *program) cancelCommand() *cobra.Command {
	var f cancelFlags
	cmd := &cobra.Command{
		Use:   "cancel ID… | cancel - | cancel --due [--tenant TENANT] [--endpoint ENDPOINT]",
		Short: "cancel messages that are still due",
		Long: `Cancels messages that are pending, retrying or being delivered. A request in flight goes on, but its answer no longer
changes anything. If one of the named messages is not due, none is cancelled. A cancelled message can be
replayed. With "-" the ids are read from stdin.

With --due it cancels all due messages of a tenant, at an endpoint, or of a tenant at an endpoint. With ids, --tenant
refuses messages of other tenants.`,
		Example: `  outbox-worker cancel 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10 --reason "the customer left"
  outbox-worker list --run-id run-4711 --state pending --ids | outbox-worker cancel -
  outbox-worker cancel --due --tenant acme --reason "the customer left"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.due {
				return takes(0, 0, "")(cmd, args)
			}
			return takes(1, math.MaxInt, "messages by their ids, or - to read them from stdin")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.cancel(cmd.Context(), args, f) },
	}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; status and show print it later")
	cmd.Flags().BoolVar(&f.due, "due", false, "all due messages of --tenant, at --endpoint, or both")
	cmd.Flags().StringVar(&f.endpoint, "endpoint", "", "the endpoint for --due, as https://HOST[:PORT]")
	tenantFlag(cmd, &f.tenant, "only this tenant's messages")
	jsonFlag(cmd, &f.asJSON)
	return cmd
}

// cancelFlags are the flags of the command cancel.
type cancelFlags struct {
	reason, endpoint string
	tenant           tenantName
	due, asJSON      bool
}

// cancelDue cancels all due messages of a tenant, at an endpoint, or both.
func (p *program) cancelDue(ctx context.Context, f cancelFlags) error {
	if f.endpoint == "" && f.tenant == "" {
		return usagef("--due wants --tenant, --endpoint, or both")
	}
	if f.endpoint != "" {
		if err := checkEndpoint(f.endpoint); err != nil {
			return err
		}
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	n, err := store.CancelDue(ctx, f.endpoint, f.reason)
	switch {
	case err != nil && n > 0:
		return fmt.Errorf("%w; %s cancelled before", err, counted(n, "message was", "messages were"))
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("%w: nothing is due there", errNothing)
	case f.asJSON:
		return p.printJSON(struct {
			Cancelled int64 `json:"cancelled"`
		}{n})
	}
	p.printf("%s cancelled\n", counted(n, "message is", "messages are"))
	return nil
}

func (p *program) cancel(ctx context.Context, args []string, f cancelFlags) error {
	if f.due {
		return p.cancelDue(ctx, f)
	}
	if f.endpoint != "" {
		return usagef("--endpoint goes with --due: all due messages there")
	}
	ids, err := p.ids(args)
	if err != nil {
		return err
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	if err := store.Cancel(ctx, ids, f.reason); err != nil {
		return err
	}
	if f.asJSON {
		states := make([]idState, len(ids))
		for i, id := range ids {
			states[i] = idState{id, outbox.StateCancelled}
		}
		return p.printJSON(states)
	}
	for _, id := range ids {
		p.printf("%s is cancelled\n", id)
	}
	return nil
}
