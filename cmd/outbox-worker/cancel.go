package main

import (
	"context"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func (p *program) cancelCommand() *cobra.Command {
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cancel ID… | cancel -",
		Short: "give up messages that are still due",
		Long: `Gives up messages that are pending, retrying or being delivered; a request under way is not torn down, but its answer
changes nothing any more. If one of the messages named is not due, none is cancelled. A cancelled message can be
replayed. With "-" the ids are read from stdin.`,
		Example: `  outbox-worker cancel 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10 --reason "the customer left"
  outbox-worker list --run-id run-4711 --state pending --ids | outbox-worker cancel -`,
		Args: takes(1, math.MaxInt, "messages by their ids, or - to read them from stdin"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.cancel(cmd.Context(), args, reason, asJSON) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever looks later")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (p *program) cancel(ctx context.Context, args []string, reason string, asJSON bool) error {
	ids, err := p.ids(args)
	if err != nil {
		return err
	}
	store, err := p.store(ctx)
	if err != nil {
		return err
	}
	if err := store.Cancel(ctx, ids, reason); err != nil {
		return err
	}
	if asJSON {
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
