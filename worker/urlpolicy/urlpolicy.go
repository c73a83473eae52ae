// Package urlpolicy lets a service refuse at submit time the callback URLs that its worker would refuse later: http, private
// addresses, ports. It is the worker's own rule, and links neither River nor a database.
//
//	policy := urlpolicy.New(urlpolicy.Config{})    // the same settings as the worker's
//	terminal, err := hook.NewWebhook(hook.WebhookConfig{Policy: policy})
//	...
//	err = terminal.CheckHeaders(headers)           // http://10.0.0.1/x: not a public address
//
// Names are not looked up: their addresses can change before the run ends, and the worker checks each address that it
// connects to.
package urlpolicy

import (
	"net/netip"
	"slices"

	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// Config has the fields of worker.Config of the same names, with the same meaning. The zero value is the worker's default:
// https to public addresses, at any port.
type Config struct {
	AllowHTTP    bool
	AllowedCIDRs []netip.Prefix
	AllowedPorts []uint16 // any when empty
}

// Policy says what a worker would refuse. It is safe for concurrent use.
type Policy struct{ delivery *delivery.Policy }

// New returns the policy of a worker with this configuration.
func New(c Config) *Policy {
	return &Policy{delivery.NewPolicy(c.AllowHTTP, slices.Clone(c.AllowedCIDRs), slices.Clone(c.AllowedPorts))}
}

// CheckURL reports a URL that the worker would refuse for good, or that outbox.CheckURL refuses. The error does not hold the
// URL's path or query.
func (p *Policy) CheckURL(url string) error { return p.delivery.CheckURL(url) }
