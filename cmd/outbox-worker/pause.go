package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// endpointPaused is the JSON that pause and resume print.
type endpointPaused struct {
	Endpoint string            `json:"endpoint"`
	Tenant   string            `json:"tenant,omitempty"`
	URL      string            `json:"url,omitempty"`
	Paused   bool              `json:"paused"`
	Resumed  *operator.Resumed `json:"resumed,omitempty"`
}

// laneFlags name what to pause or resume: an endpoint, a tenant at it, or a URL that was set aside.
type laneFlags struct {
	endpoint string // the argument
	tenant   tenantName
	url      string
	reason   string
	asJSON   bool
}

func (f *laneFlags) add(cmd *cobra.Command) {
	tenantFlag(cmd, &f.tenant, "only this tenant at the endpoint")
	cmd.Flags().StringVar(&f.url, "url", "", "only this URL, which a worker has set aside because it fails; instead of ENDPOINT")
	jsonFlag(cmd, &f.asJSON)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if f.url != "" && len(args) > 0 {
			return usageError{fmt.Sprintf("%s takes no argument with --url: leave out %q", cmd.Name(), args[0]), cmd.CommandPath()}
		}
		if f.url != "" {
			return nil
		}
		if err := takes(1, 1, "one endpoint, as https://HOST[:PORT]")(cmd, args); err != nil {
			return err
		}
		f.endpoint = args[0]
		return nil
	}
}

func (f *laneFlags) check() error {
	if f.url == "" {
		return checkEndpoint(f.endpoint)
	}
	endpoint, err := outbox.CheckURL(f.url)
	if err != nil {
		return usagef("--url: %v", err)
	}
	f.endpoint = endpoint
	return nil
}

// name says in words what is paused or resumed.
func (f *laneFlags) name() string {
	if f.url != "" {
		return f.tenant.at(f.url)
	}
	return f.tenant.at(f.endpoint)
}

func (f *laneFlags) json(paused bool, resumed *operator.Resumed) endpointPaused {
	return endpointPaused{f.endpoint, string(f.tenant), f.url, paused, resumed}
}

func (p *program) pauseCommand() *cobra.Command {
	var f laneFlags
	cmd := &cobra.Command{
		Use:   "pause ENDPOINT [--tenant TENANT]",
		Short: "send nothing to an endpoint until it is resumed",
		Long: `Sends nothing to an endpoint until it is resumed; requests in flight go on. Its messages wait, and no attempt
is counted. An endpoint is the origin of a URL: scheme, host and port. Without --tenant, the messages of all
tenants wait. With --url only those to one URL do, if a worker has set it aside because it fails.`,
		Example: `  outbox-worker pause https://hooks.example.com --reason "maintenance until nine"
  outbox-worker pause https://hooks.example.com --tenant acme`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.pause(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; status and show print it later")
	f.add(cmd)
	return cmd
}

func (p *program) pause(ctx context.Context, f laneFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	if f.url != "" {
		if err = store.PauseURL(ctx, f.url, f.reason); errors.Is(err, operator.ErrNotAside) {
			return fmt.Errorf("%w: no worker has set %s aside; pause its endpoint", errNothing, f.name())
		}
	} else if err = store.Pause(ctx, f.endpoint, f.reason); err == nil {
		err = p.warnUnknown(ctx, store, f.endpoint, f.tenant)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		return p.printJSON(f.json(true, nil))
	}
	p.printf("%s is paused\n", f.name())
	return nil
}

func (p *program) resumeCommand() *cobra.Command {
	var f laneFlags
	cmd := &cobra.Command{
		Use:   "resume ENDPOINT [--tenant TENANT]",
		Short: "send to an endpoint again, at once",
		Long: `Ends what holds an endpoint back: a pause, an open circuit breaker or a Retry-After. With the endpoint it resumes its
tenants, and the URLs that were set aside because they fail; with --tenant, the tenant and its URLs there; with --url,
one URL. Tenants that were paused by name stay so. The exit status is 3 when nothing was held back: check the
spelling.`,
		Example: `  outbox-worker resume https://hooks.example.com
  outbox-worker resume https://hooks.example.com --tenant acme
  outbox-worker resume --url https://hooks.example.com/runs`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.resume(cmd.Context(), f) },
	}
	f.add(cmd)
	return cmd
}

func (p *program) resume(ctx context.Context, f laneFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	var done operator.Resumed
	if f.url != "" {
		done, err = store.ResumeURL(ctx, f.url)
	} else {
		done, err = store.Resume(ctx, f.endpoint)
	}
	if err != nil {
		return err
	}
	if done.StillPaused > 0 {
		p.say("%s paused by name: resume each with --tenant", counted(int64(done.StillPaused), "tenant there stays", "tenants there stay"))
	}
	switch {
	case !done.Any():
		return fmt.Errorf("%w: %s is not held back", errNothing, f.name())
	case f.asJSON:
		return p.printJSON(f.json(false, &done))
	}
	p.printf("%s is resumed%s\n", f.name(), f.beside(done))
	return nil
}

// beside counts what was resumed besides what was named.
func (f *laneFlags) beside(done operator.Resumed) string {
	tenants, urls := done.Tenants, done.URLs
	if f.tenant != "" {
		tenants = 0
	}
	if f.url != "" {
		urls = 0
	}
	var parts []string
	if tenants > 0 {
		parts = append(parts, plural(int64(tenants), "tenant"))
	}
	if urls > 0 {
		parts = append(parts, plural(int64(urls), "URL"))
	}
	if len(parts) == 0 {
		return ""
	}
	return ", with " + strings.Join(parts, " and ")
}
