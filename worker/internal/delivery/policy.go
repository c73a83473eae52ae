package delivery

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Policy knows what a [Sender] of the same settings would block, as far as that is known before a lookup.
type Policy struct {
	allowHTTP bool
	guard     *guard
}

// NewPolicy returns the policy of AllowHTTP, AllowedCIDRs and AllowedPorts of a [Config].
func NewPolicy(allowHTTP bool, allowed []netip.Prefix, ports []uint16) *Policy {
	return &Policy{allowHTTP: allowHTTP, guard: newGuard(allowed, nil, ports)}
}

// CheckURL reports a URL that would be blocked: by its scheme, its port, or the address that stands for its host. Of names, only
// localhost is known (RFC 6761, section 6.3); the addresses of other names are checked when they are called.
func (p *Policy) CheckURL(raw string) error {
	if _, err := outbox.CheckURL(raw); err != nil {
		return err
	}
	if !p.allowHTTP && isHTTP(raw) {
		return errHTTP
	}
	u, err := url.Parse(raw)
	if err != nil {
		return err // CheckURL has parsed it
	}
	port := uint64(443)
	if isHTTP(raw) {
		port = 80
	}
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil {
			return err // CheckURL has read it
		}
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return p.guard.checkPort(uint16(port))
	}
	return p.guard.check(netip.AddrPortFrom(addr, uint16(port)))
}

// errHTTP is why an http:// URL is blocked.
var errHTTP = errors.New("url: scheme http is not allowed here; want https (AllowHTTP allows it)")

func isHTTP(raw string) bool { return strings.HasPrefix(strings.ToLower(raw), "http:") }
