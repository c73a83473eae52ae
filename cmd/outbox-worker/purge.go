package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// purgeFlags are the flags of the command purge.
type purgeFlags struct {
	tenant              tenantName
	runID               string
	wait                time.Duration
	dryRun, yes, asJSON bool
}

// purgeWaitMax is longer than any sensible lease.
const purgeWaitMax = time.Hour

func (p *program) purgeCommand() *cobra.Command {
	var f purgeFlags
	cmd := &cobra.Command{
		Use:   "purge --tenant TENANT | purge --run-id RUN",
		Short: "erase all that is kept of a tenant, or of a run",
		Long: `Erases what the outbox holds of a tenant or of a run, with both of a run of the tenant: messages with their dedupe
keys, attempts, what is due and dead, copies that replays made, and the runs of riverstep that the messages were
written for. It counts first, and asks before it erases. There is no way back.

It reads all messages to find those of a tenant, in short statements, and erases 500 in a transaction. It waits for
messages that are being delivered, as long as --wait allows; if some are left then, it says so, and the exit status
is 1. First make sure that nothing more is written for the tenant: messages that are written after the count stay. So
do active runs, the tenant's pauses and limits, and runs that belong to the message of another tenant. Once a dedupe
key is erased, the run can be reported again.

Erased rows leave the database's files with its next VACUUM; backups and archived WAL still have them.`,
		Example: `  outbox-worker purge --tenant acme --dry-run
  outbox-worker purge --tenant acme --yes
  outbox-worker purge --run-id run-4711`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.purge(cmd.Context(), f) },
	}
	tenantFlag(cmd, &f.tenant, "erase all data of this tenant")
	cmd.Flags().StringVar(&f.runID, "run-id", "", "erase all data of this run")
	cmd.Flags().DurationVar(&f.wait, "wait", time.Minute, "how long to wait for messages that are being delivered or locked; 1h at most")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "count, and erase nothing")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "erase without asking")
	jsonFlag(cmd, &f.asJSON)
	return cmd
}

func (f purgeFlags) check() error {
	switch {
	case f.tenant == "" && f.runID == "":
		return usagef("purge: name what to erase: --tenant TENANT or --run-id RUN")
	case f.wait < 0 || f.wait > purgeWaitMax:
		return usagef("--wait is %s; want 0s to %s", f.wait, plainDuration(purgeWaitMax))
	case f.dryRun && f.yes:
		return usagef("--dry-run erases nothing; leave out --yes")
	}
	return nil
}

func (f purgeFlags) what() string {
	var parts []string
	if f.runID != "" {
		parts = append(parts, "run "+printable(f.runID))
	}
	if f.tenant != "" {
		parts = append(parts, "tenant "+string(f.tenant))
	}
	return strings.Join(parts, " of ")
}

func (p *program) purge(ctx context.Context, f purgeFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	progress := p.purgeProgress("counted")
	purge, err := store.Purge(f.runID, func(at operator.PurgeProgress) { progress(at) })
	if err != nil {
		return err
	}
	found, err := purge.Survey(ctx)
	switch {
	case err != nil:
		return err
	case f.dryRun:
		return p.printPurge(f, found, "would be erased")
	case found.Messages+found.Runs+found.Lanes == 0:
		return fmt.Errorf("%w: nothing is kept of %s", errNothing, f.what())
	case !f.yes:
		if err := p.confirmPurge(f, found); err != nil {
			return err
		}
	}
	progress = p.purgeProgress("erased")
	erased, err := purge.Erase(ctx, f.wait)
	if err != nil && erased.Messages == 0 {
		return err
	}
	if printErr := p.printPurge(f, erased, "erased"); printErr != nil {
		return errors.Join(err, printErr)
	}
	if err == nil && erased.Left > 0 {
		return fmt.Errorf("%s left: still being delivered, locked by another transaction, or kept by the database%s; run the purge again",
			counted(erased.Left, "message is", "messages are"), after(": ", printable(erased.Refusal)))
	}
	return err
}

func after(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// confirmPurge asks, and accepts only yes.
func (p *program) confirmPurge(f purgeFlags, found operator.PurgeCounts) error {
	if err := p.printPurge(purgeFlags{tenant: f.tenant, runID: f.runID}, found, "will be erased"); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Erase all that is kept of %s? There is no way back. Type yes: ", f.what())
	answer, err := bufio.NewReader(p.stdin).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		p.say("")
		if err != nil {
			return usagef("purge: there was no answer, and nothing was erased; say --yes if you mean it")
		}
		return usagef("purge: the answer was not yes, and nothing was erased")
	}
	return nil
}

// purgeProgress returns a function that prints the progress of a purge on stderr, every two seconds.
func (p *program) purgeProgress(verb string) func(operator.PurgeProgress) {
	last := time.Now()
	return func(at operator.PurgeProgress) {
		if time.Since(last) < 2*time.Second {
			return
		}
		last = time.Now()
		of := ""
		if at.About > 0 {
			of = " of about " + grouped(at.About)
		}
		p.say("%s%s messages read, %s %s", grouped(at.Walked), of, grouped(at.Counts.Messages), verb)
	}
}

func (p *program) printPurge(f purgeFlags, n operator.PurgeCounts, header string) error {
	if f.asJSON {
		return p.printJSON(struct {
			Tenant string `json:"tenant,omitempty"`
			RunID  string `json:"run_id,omitempty"`
			DryRun bool   `json:"dry_run"`
			operator.PurgeCounts
		}{string(f.tenant), f.runID, f.dryRun, n})
	}
	p.printf("%s of %s:\n", header, f.what())
	for _, each := range []struct {
		name string
		n    int64
	}{
		{"messages", n.Messages}, {"  copies among them", n.Copies}, {"  with a dedupe key", n.DedupeKeys}, {"attempts", n.Attempts},
		{"due", n.Due}, {"dead or cancelled", n.Dead}, {"runs of riverstep", n.Runs}, {"endpoints remembered", n.Lanes},
	} {
		p.printf("  %-21s %s\n", each.name, grouped(each.n))
	}
	if n.ActiveRuns > 0 {
		p.say("%s: cancel it first, then purge again", counted(n.ActiveRuns, "run has not ended, and stays", "runs have not ended, and stay"))
	}
	if n.PausedLanes > 0 {
		p.say("%s: outbox-worker resume and limit --none remove them", counted(n.PausedLanes, "pause or limit of the tenant stays", "pauses or limits of the tenant stay"))
	}
	return nil
}
