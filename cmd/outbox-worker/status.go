package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "status",
		Short: "who works, what is waiting, what is dead, and which endpoints fail",
		Long: `Says how many workers there are, and what keeps them from delivering. Counts the messages in each state, tells how
old the oldest of each is, and lists the endpoints that are paused, fail or have something waiting, the worst first.
Delivered messages are counted until retention removes them.`,
		Example: `  outbox-worker status
  outbox-worker status --json | jq '.states[] | select(.state == "dead").messages'`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.status(cmd.Context(), limit, asJSON) },
	}
	cmd.Flags().IntVar(&limit, "endpoints", 10, "list at most so many endpoints; 0: all")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (p *program) status(ctx context.Context, limit int, asJSON bool) error {
	if limit < 0 || limit > listLimitMax {
		return usagef("--endpoints is %d; want 1 to %d, or 0 for all", limit, listLimitMax)
	}
	store, err := p.store(ctx)
	if err != nil {
		return err
	}
	states, err := store.Overview(ctx)
	if err != nil {
		return err
	}
	ask := limit
	if limit > 0 {
		ask++ // one more tells whether there are more
	}
	endpoints, err := store.Endpoints(ctx, ask)
	if err != nil {
		return err
	}
	if limit > 0 && len(endpoints) > limit {
		endpoints = endpoints[:limit]
		defer p.say("only the worst of the endpoints are listed; --endpoints 0 lists all")
	}
	workers, err := store.Workers(ctx)
	if err != nil {
		return err
	}
	now, err := p.now(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		if workers == nil {
			workers = []outbox.WorkerStatus{}
		}
		if endpoints == nil {
			endpoints = []outbox.EndpointStatus{}
		}
		return p.printJSON(struct {
			At        time.Time               `json:"at"`
			Workers   []outbox.WorkerStatus   `json:"workers"`
			States    []outbox.StateCount     `json:"states"`
			Endpoints []outbox.EndpointStatus `json:"endpoints"`
		}{now, workers, states, endpoints})
	}
	p.printf("%s\n\n", workersLine(workers, now))
	p.printStates(states, now)
	p.printf("\n")
	p.printEndpoints(endpoints, now)
	return nil
}

func (p *program) printStates(states []outbox.StateCount, now time.Time) {
	rows := make([][]string, len(states))
	for i, s := range states {
		rows[i] = []string{string(s.State), grouped(s.Messages), oldest(s, now)}
	}
	p.table([]string{"STATE", "MESSAGES", "OLDEST"}, rows)
}

func oldest(s outbox.StateCount, now time.Time) string {
	switch {
	case s.OldestDue != nil && s.OldestDue.After(now):
		return "due " + until(now, *s.OldestDue)
	case s.OldestDue != nil:
		return "due " + ago(now, *s.OldestDue)
	case s.OldestInFlight != nil && s.OldestLeaseUntil != nil:
		return "due " + ago(now, *s.OldestInFlight) + ", lease ends " + until(now, *s.OldestLeaseUntil)
	case s.OldestDead != nil:
		return "since " + ago(now, *s.OldestDead)
	}
	return ""
}

func (p *program) printEndpoints(endpoints []outbox.EndpointStatus, now time.Time) {
	if len(endpoints) == 0 {
		p.printf("no endpoint has anything waiting or dead\n")
		return
	}
	rows := make([][]string, len(endpoints))
	for i, e := range endpoints {
		due := ""
		if e.OldestDue != nil && e.OldestDue.After(now) {
			due = until(now, *e.OldestDue)
		} else if e.OldestDue != nil {
			due = ago(now, *e.OldestDue)
		}
		rows[i] = []string{
			cell(e.Endpoint, 60), grouped(e.Retrying), grouped(e.Dead), grouped(e.Waiting), grouped(e.Delivering), due, held(e, now),
		}
	}
	p.table([]string{"ENDPOINT", "RETRYING", "DEAD", "WAITING", "DELIVERING", "OLDEST DUE", "HELD BACK"}, rows)
}

// held says why nothing is sent to an endpoint.
func held(e outbox.EndpointStatus, now time.Time) string {
	text := ""
	switch {
	case e.Paused:
		text = "paused"
		if e.Since != nil {
			text += " " + ago(now, *e.Since)
		}
	case e.OpenUntil != nil && e.OpenUntil.After(now):
		text = "left alone, resumes " + until(now, *e.OpenUntil)
	case e.MaxInFlight != nil || e.RatePerSecond != nil:
		text = limitsOf(e)
	default:
		return ""
	}
	if e.Reason != nil {
		text += ": " + cell(*e.Reason, 80)
	}
	return text
}

func limitsOf(e outbox.EndpointStatus) string {
	var l outbox.Limits
	if e.MaxInFlight != nil {
		l.MaxInFlight = *e.MaxInFlight
	}
	if e.RatePerSecond != nil {
		l.RatePerSecond = *e.RatePerSecond
	}
	return limitText(l)
}
