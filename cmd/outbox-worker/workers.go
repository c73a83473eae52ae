package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func (p *program) workersCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "which workers drain the outbox, and which have died",
		Long: `Lists the workers from what each writes about itself every five seconds: its requests in flight, how far its clock
differs from the database's, and what keeps it from delivering. One that died is listed for an hour.
Workers behind a pooler in transaction mode, and those of versions before this command, are not listed.`,
		Example: "  outbox-worker workers\n  outbox-worker workers --json | jq '.[] | select(.not_ready).name'",
		Args:    takes(0, 0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.workers(cmd.Context(), asJSON) },
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (p *program) workers(ctx context.Context, asJSON bool) error {
	store, err := p.store(ctx)
	if err != nil {
		return err
	}
	list, err := store.Workers(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		if list == nil {
			list = []operator.WorkerStatus{}
		}
		return p.printJSON(list)
	}
	now, err := p.now(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		p.printf("%s\n", workersLine(nil, now))
		return nil
	}
	rows := make([][]string, len(list))
	for i, w := range list {
		clock := ""
		if ahead := time.Duration(w.ClockAheadMS) * time.Millisecond; ahead.Abs() >= time.Second {
			clock = fmt.Sprintf("%+.1fs", ahead.Seconds())
		}
		rows[i] = []string{
			cell(w.Name, 60), cell(w.Host, 40), cell(w.Version, 30), ago(now, w.Started), ago(now, w.Seen), grouped(int64(w.InFlight)), clock, workerState(w, now),
		}
	}
	p.table([]string{"WORKER", "HOST", "VERSION", "STARTED", "SEEN", "IN FLIGHT", "CLOCK", "STATE"}, rows, "HOST", "VERSION", "STARTED", "CLOCK")
	return nil
}

func workerState(w operator.WorkerStatus, now time.Time) string {
	switch {
	case !w.Lives(now):
		return "gone"
	case w.NotReady != nil:
		return "not ready: " + cell(*w.NotReady, 120)
	}
	return "ready"
}

// workersLine lists the living workers in one line.
func workersLine(list []operator.WorkerStatus, now time.Time) string {
	living, notReady := 0, ""
	for _, w := range list {
		if !w.Lives(now) {
			continue
		}
		living++
		if w.NotReady != nil && notReady == "" {
			notReady = fmt.Sprintf("; %s is not ready: %s", cell(w.Name, 60), cell(*w.NotReady, 120))
		}
	}
	switch {
	case living == 1:
		return "1 worker" + notReady
	case living > 1:
		return fmt.Sprintf("%d workers", living) + notReady
	case len(list) > 0:
		return "no worker seen since " + ago(now, list[0].Seen)
	}
	return "no worker seen (one behind a pooler in transaction mode is never seen)"
}
