package main

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// replayFlags are the flags of the command replay.
type replayFlags struct {
	url, endpoint string
	tenant        tenantName
	dead, asJSON  bool
}

func (p *program) replayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay ID… | replay - | replay --dead [--endpoint ENDPOINT] [--tenant TENANT]",
		Short: "deliver messages again, at once",
		Long: `Makes messages due at once, whether dead, cancelled, delivered or waiting for their next attempt. Their ids stay, so a
receiver that did get one can drop the repeat. With --url each is copied to that URL under an id of its own, and the
old one is closed as cancelled. If one of the messages named cannot be replayed, none is.

With "-" the ids are read from stdin, the first word of each line. With --dead it takes all dead messages at an
endpoint, of a tenant, or of a tenant at an endpoint, except those that were invalid from the beginning: replay these
by id. With ids, --tenant refuses messages of other tenants. A message waits with those of its tenant again.

In the last example, --newer-than counts from the writing of a message, not from its death: one that was written two
days ago and died a minute ago is not among them.`,
		Example: `  outbox-worker replay 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10
  outbox-worker replay 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10 --url https://hooks.example.com/v2
  outbox-worker replay --dead --endpoint https://hooks.example.com
  outbox-worker replay --dead --tenant acme
  outbox-worker list --state dead --newer-than 1h --ids | outbox-worker replay -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.dead {
				return takes(0, 0, "")(cmd, args)
			}
			return takes(1, math.MaxInt, "messages by their ids, or - to read them from stdin")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.replay(cmd.Context(), args, f) },
	}
	cmd.Flags().StringVar(&f.url, "url", "", "deliver a copy to this URL instead")
	cmd.Flags().BoolVar(&f.dead, "dead", false, "all dead messages at --endpoint, of --tenant, or both")
	cmd.Flags().StringVar(&f.endpoint, "endpoint", "", "the endpoint for --dead, as https://HOST[:PORT]")
	tenantFlag(cmd, &f.tenant, "only this tenant's messages")
	jsonFlag(cmd, &f.asJSON)
	return cmd
}

func (p *program) replay(ctx context.Context, args []string, f replayFlags) error {
	if f.url != "" {
		if _, err := outbox.CheckURL(f.url); err != nil {
			return usagef("--url: %v", err)
		}
	}
	if f.endpoint != "" && !f.dead || f.dead && f.endpoint == "" && f.tenant == "" {
		return usagef("--dead and --endpoint go together: all dead messages at that endpoint; or --dead and --tenant")
	}
	if f.dead {
		if f.endpoint != "" {
			if err := checkEndpoint(f.endpoint); err != nil {
				return err
			}
		}
		return p.replayDead(ctx, f)
	}
	ids, err := p.ids(args)
	if err != nil {
		return err
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	done, err := store.Replay(ctx, ids, f.url)
	if err != nil {
		return err
	}
	if err := p.printReplayed(done, f); err != nil {
		return err
	}
	return p.warnPaused(ctx, store, done)
}

// warnPaused warns of messages that were made due where nothing is sent.
func (p *program) warnPaused(ctx context.Context, store *operator.Store, done []operator.Replayed) error {
	ids := make([]outbox.ID, min(len(done), idsMax))
	for i := range ids {
		ids[i] = done[i].New
	}
	paused, err := store.PausedAmong(ctx, ids)
	for _, x := range paused {
		where := x.Endpoint
		if x.Tenant != nil {
			where = tenantName(*x.Tenant).at(x.Endpoint)
		}
		what := "it is paused"
		if x.Scope == "URL" {
			what = "the URL is paused"
		}
		p.say("warning: %s to %s: %s; see 'outbox-worker status', and 'outbox-worker resume'", counted(x.Messages, "message waits", "messages wait"), where, what)
	}
	return err
}

// replayDead replays the dead messages at an endpoint in batches, so that no transaction is long. It skips messages that died
// again meanwhile, and invalid ones: neither may keep it running for ever.
func (p *program) replayDead(ctx context.Context, f replayFlags) error {
	const batch = 500
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	replayed := map[outbox.ID]bool{}
	var done []operator.Replayed
	passed, invalid := 0, 0
	for {
		limit := passed + batch
		page, err := store.List(ctx, operator.Filter{States: []outbox.State{outbox.StateDead}, Endpoint: f.endpoint, Limit: limit})
		if err != nil {
			return p.interruptedReplay(done, f, err)
		}
		var ids []outbox.ID
		invalid = 0
		for _, m := range page {
			switch {
			case m.DeadReason != nil && *m.DeadReason == "invalid":
				invalid++
			case !replayed[m.ID]:
				ids = append(ids, m.ID)
				replayed[m.ID] = true
			}
		}
		passed = len(page) - len(ids)
		if len(ids) == 0 && len(page) < limit {
			break
		}
		if len(ids) == 0 {
			continue // the page held only skipped messages: the next one is longer
		}
		some, err := store.Replay(ctx, ids, f.url)
		if err != nil {
			return p.interruptedReplay(done, f, err)
		}
		done = append(done, some...)
	}
	if invalid > 0 {
		p.say("%s left: invalid from the beginning; replay by id, with --url if the URL was the fault", plural(int64(invalid), "dead message"))
	}
	if len(done) == 0 {
		where := "at " + f.tenant.at(f.endpoint)
		if f.endpoint == "" {
			where = "of tenant " + string(f.tenant)
		}
		return fmt.Errorf("%w: no dead message can be replayed %s", errNothing, where)
	}
	if err := p.printReplayed(done, f); err != nil {
		return err
	}
	return p.warnPaused(ctx, store, done)
}

// interruptedReplay prints the batches that were done before one failed.
func (p *program) interruptedReplay(done []operator.Replayed, f replayFlags, err error) error {
	if len(done) > 0 {
		if printErr := p.printReplayed(done, f); printErr != nil {
			return printErr
		}
	}
	return err
}

func (p *program) printReplayed(done []operator.Replayed, f replayFlags) error {
	if f.asJSON {
		return p.printJSON(done)
	}
	for _, r := range done {
		if f.url == "" {
			p.printf("%s is due again\n", r.ID)
		} else {
			p.printf("%s is due as %s\n", r.ID, r.New)
		}
	}
	p.say("%s replayed", plural(int64(len(done)), "message"))
	return nil
}
