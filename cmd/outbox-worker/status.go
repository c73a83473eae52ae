package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// statusFlags are the flags of the command status.
type statusFlags struct {
	by     string
	tenant tenantName
	limit  int
	every  age // of --watch; 0: show it once
	asJSON bool
}

// statusReport is what status found; it is also the JSON that it prints.
type statusReport struct {
	At        time.Time                 `json:"at"`
	Workers   []operator.WorkerStatus   `json:"workers"`
	States    []operator.StateCount     `json:"states"`
	Endpoints []operator.EndpointStatus `json:"endpoints,omitzero"`
	Tenants   []operator.TenantStatus   `json:"tenants,omitzero"` // with --by tenant, instead of the endpoints
	Unlisted  int64                     `json:"unlisted"`         // endpoints or tenants that --endpoints cut off
	Sample    *operator.Sample          `json:"sample"`           // the last measurement of a worker

	hurting int64 // the unlisted endpoints that have something waiting
}

func (p *program) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "who works, what is waiting, what is dead, and which endpoints fail",
		Long: `Shows how many workers there are, what keeps them from delivering, and the present problems, the worst first, from the
last measurement of a worker (OUTBOX_SAMPLE_INTERVAL). It counts the messages in each state, with the age of the
oldest, and lists the endpoints: first those that fail or have messages waiting now, then paused ones, then those
whose messages died long ago. A tenant at an endpoint has a row of its own, and so has a URL that was set aside
because it fails; dead messages are counted with the endpoint. HELD BACK says why nothing is sent there, since when
and until when.

With --by tenant it lists tenants instead, those whose messages have waited longest first. With --tenant it shows one
tenant only. Delivered messages are counted until retention removes them, and not for a tenant. Counts over 100 000
are estimates, with ~ before them; the oldest is then that of a sample.`,
		Example: `  outbox-worker status
  outbox-worker status --watch
  outbox-worker status --by tenant
  outbox-worker status --tenant acme
  outbox-worker status --json | jq '.states[] | select(.state == "dead").messages'`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.status(cmd.Context(), f) },
	}
	cmd.Flags().IntVar(&f.limit, "endpoints", 10, "how many endpoints, or tenants, to list at most; 0: all")
	cmd.Flags().StringVar(&f.by, "by", "endpoint", "what to list: endpoint or tenant")
	tenantFlag(cmd, &f.tenant, "only this tenant's messages")
	watchFlag(cmd, &f.every)
	jsonFlag(cmd, &f.asJSON)
	return cmd
}

func (p *program) status(ctx context.Context, f statusFlags) error {
	switch {
	case f.limit < 0 || f.limit > listLimitMax:
		return usagef("--endpoints is %d; want 1 to %d, or 0 for all", f.limit, listLimitMax)
	case f.by != "endpoint" && f.by != "tenant":
		return usagef("--by is %.64q; want endpoint or tenant", f.by)
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	return p.watch(ctx, f.every, func() error { return p.showStatus(ctx, store, f) })
}

func (p *program) showStatus(ctx context.Context, store *operator.Store, f statusFlags) error {
	report, err := p.readStatus(ctx, store, f)
	if err != nil {
		return err
	}
	if f.asJSON {
		return p.printJSON(report)
	}
	p.printStatus(report)
	return nil
}

func (p *program) readStatus(ctx context.Context, store *operator.Store, f statusFlags) (r statusReport, err error) {
	if r.States, err = store.Overview(ctx); err != nil {
		return r, err
	}
	if f.by == "tenant" {
		r.Tenants, r.Unlisted, err = store.Tenants(ctx, f.limit)
		r.Tenants = orEmpty(r.Tenants)
	} else {
		var page operator.EndpointPage
		page, err = store.EndpointPage(ctx, f.limit)
		r.Endpoints, r.Unlisted, r.hurting = orEmpty(page.Endpoints), page.Unlisted, page.Hurting
	}
	if err != nil {
		return r, err
	}
	if r.Workers, err = store.Workers(ctx); err != nil {
		return r, err
	}
	r.Workers = orEmpty(r.Workers)
	if f.tenant == "" { // a sample covers the whole outbox
		if r.Sample, _, err = store.Sample(ctx); err != nil {
			return r, err
		}
	}
	r.At, err = p.now(ctx)
	return r, err
}

// orEmpty makes an array of JSON of a list that may be nil.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (p *program) printStatus(r statusReport) {
	p.printf("%s\n", workersLine(r.Workers, r.At))
	if r.Sample != nil {
		p.printTroubles(troublesOf(r.Workers, r.Sample, r.At))
	}
	p.printf("\n")
	p.printStates(r.States, r.At)
	p.printf("\n")
	if r.Tenants != nil {
		p.printTenants(r.Tenants, r.At)
	} else {
		p.printEndpoints(r.Endpoints, r.At)
	}
	switch {
	case r.Unlisted > 0 && r.Tenants != nil:
		p.say("%s not listed; --endpoints 0 lists all", counted(r.Unlisted, "more tenant is", "more tenants are"))
	case r.Unlisted > 0:
		p.say("%s not listed, of which %s something waiting; --endpoints 0 lists all",
			counted(r.Unlisted, "more endpoint is", "more endpoints are"), counted(r.hurting, "has", "have"))
	}
}

func (p *program) printStates(states []operator.StateCount, now time.Time) {
	rows := make([][]string, len(states))
	for i, s := range states {
		rows[i] = []string{string(s.State), roughly(s.Messages, s.Estimated), oldest(s, now)}
	}
	p.table([]string{"STATE", "MESSAGES", "OLDEST"}, rows)
}

// printTroubles prints a line for each trouble. A missing worker was printed before.
func (p *program) printTroubles(all []trouble) {
	for _, t := range all {
		if t.kind != troubleWorkers {
			for i, line := range p.wrapped(t.text, 2) {
				p.printf("%s%s\n", []string{"- ", "  "}[min(i, 1)], line)
			}
		}
	}
}

// roughly is a count, with a mark before an estimate.
func roughly(n int64, estimated bool) string {
	if estimated {
		return "~" + grouped(n)
	}
	return grouped(n)
}

func oldest(s operator.StateCount, now time.Time) string {
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

func (p *program) printEndpoints(endpoints []operator.EndpointStatus, now time.Time) {
	if len(endpoints) == 0 {
		p.printf("no endpoint has anything waiting or dead\n")
		return
	}
	header := []string{"ENDPOINT", "RETRYING", "DEAD", "WAITING", "DELIVERING", "OLDEST DUE", "HELD BACK"}
	rows := make([][]string, len(endpoints))
	for i, e := range endpoints {
		rows[i] = []string{
			cell(endpointName(e), 60), roughly(e.Retrying, e.Estimated), roughly(e.Dead, e.DeadEstimated), roughly(e.Waiting, e.Estimated),
			roughly(e.Delivering, e.Estimated), due(e.OldestDue, now), held(e, now),
		}
	}
	header, rows = withTenants(header, rows, 1, func(i int) *string { return endpoints[i].Tenant })
	p.table(header, rows, "DELIVERING", "WAITING", "DEAD", "RETRYING", "OLDEST DUE")
}

// endpointName is the endpoint, or the URL of a row that is one URL.
func endpointName(e operator.EndpointStatus) string {
	switch {
	case e.URL != nil:
		return *e.URL
	case strings.Count(e.Lane, " ") == 2:
		return e.Endpoint + " (one URL)"
	}
	return e.Endpoint
}

// held says why nothing is sent to an endpoint, and what limits it.
func held(e operator.EndpointStatus, now time.Time) string {
	limited := e.MaxInFlight != nil || e.RatePerSecond != nil
	text := ""
	switch {
	case e.HeldBy != nil && !(limited && *e.HeldBy == operator.HeldByRate):
		return heldShort(e.Hold, now)
	case e.Paused: // on tables without holds
		text = "paused"
		if e.Since != nil {
			text += " " + ago(now, *e.Since)
		}
	case e.OpenUntil != nil && e.OpenUntil.After(now):
		text = "left alone, resumes " + until(now, *e.OpenUntil)
	case limited:
		text = limitsOf(e)
	case e.Failures > 0 && e.Waiting > 0:
		text = plural(int64(e.Failures), "failure") + " in a row"
	default:
		return ""
	}
	if e.Reason != nil {
		text += ": " + cell(*e.Reason, 80)
	}
	return text
}

func limitsOf(e operator.EndpointStatus) string {
	var l operator.Limits
	if e.MaxInFlight != nil {
		l.MaxInFlight = *e.MaxInFlight
	}
	if e.RatePerSecond != nil {
		l.RatePerSecond = *e.RatePerSecond
	}
	return limitText(l)
}
