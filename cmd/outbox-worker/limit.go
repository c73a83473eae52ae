package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// endpointLimited is the JSON that limit prints; null stands for no limit, as in status --json.
type endpointLimited struct {
	Endpoint      string   `json:"endpoint"`
	Tenant        string   `json:"tenant,omitempty"`
	MaxInFlight   *int     `json:"max_in_flight"`
	RatePerSecond *float64 `json:"rate_per_second"`
}

func limited(endpoint, tenant string, l operator.Limits) endpointLimited {
	e := endpointLimited{Endpoint: endpoint, Tenant: tenant}
	if l.MaxInFlight > 0 {
		e.MaxInFlight = &l.MaxInFlight
	}
	if l.RatePerSecond > 0 {
		e.RatePerSecond = &l.RatePerSecond
	}
	return e
}

func (p *program) limitCommand() *cobra.Command {
	var limits operator.Limits
	var reason string
	var tenant tenantName
	var none, asJSON bool
	cmd := &cobra.Command{
		Use:   "limit ENDPOINT",
		Short: "bound what is sent to an endpoint",
		Long: `Bounds what is sent to an endpoint, in place of the limits it had: requests at once, of each worker, and requests begun
per second, of all workers together. Its messages wait, and no attempt is counted. Requests in flight go
on. The limits of an endpoint bound all tenants together; with --tenant, one tenant there.`,
		Example: `  outbox-worker limit https://hooks.example.com --rate 5 --max-in-flight 2 --reason "asked for it"
  outbox-worker limit https://hooks.example.com --tenant acme --rate 1
  outbox-worker limit https://hooks.example.com --none`,
		Args: takes(1, 1, "one endpoint, as https://HOST[:PORT]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkEndpoint(args[0]); err != nil {
				return err
			}
			if err := checkLimits(limits, none); err != nil {
				return err
			}
			store, err := p.storeOf(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			if err := store.Limit(cmd.Context(), args[0], limits, reason); err != nil {
				return err
			}
			if !none {
				if err := p.warnUnknown(cmd.Context(), store, args[0], tenant); err != nil {
					return err
				}
			}
			if asJSON {
				return p.printJSON(limited(args[0], string(tenant), limits))
			}
			p.printf("%s: %s\n", tenant.at(args[0]), limitText(limits))
			return nil
		},
	}
	cmd.Flags().IntVar(&limits.MaxInFlight, "max-in-flight", 0, fmt.Sprintf("requests at once, of each worker; 1 to %d", operator.LimitInFlightMax))
	cmd.Flags().Float64Var(&limits.RatePerSecond, "rate", 0, fmt.Sprintf("requests begun per second, of all workers together; %v to %d", operator.LimitRateMin, int(operator.LimitRateMax)))
	cmd.Flags().BoolVar(&none, "none", false, "remove the limits")
	cmd.Flags().StringVar(&reason, "reason", "", "why; status and show print it later")
	tenantFlag(cmd, &tenant, "only this tenant at the endpoint")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func checkLimits(l operator.Limits, none bool) error {
	switch {
	case none && l != (operator.Limits{}):
		return usagef("--none removes the limits; leave it out to set --max-in-flight or --rate")
	case !none && l == (operator.Limits{}):
		return usagef("nothing to limit; want --max-in-flight N, --rate N, or --none")
	}
	if faults := fieldfault.Of(l.Validate()); len(faults) > 0 {
		flags := map[string]string{"MaxInFlight": "--max-in-flight", "RatePerSecond": "--rate"}
		return usagef("%s", faults[0].In(func(field string) string { return flags[field] }))
	}
	return nil
}

func limitText(l operator.Limits) string {
	var parts []string
	if l.MaxInFlight > 0 {
		parts = append(parts, fmt.Sprintf("at most %d at once, of each worker", l.MaxInFlight))
	}
	if l.RatePerSecond > 0 {
		parts = append(parts, fmt.Sprintf("at most %v per second", l.RatePerSecond))
	}
	if len(parts) == 0 {
		return "no limits"
	}
	return strings.Join(parts, ", ")
}
