package worker

import (
	"fmt"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// guard closes every address that is not public unicast. It is asked for each address when it is dialled, after every
// lookup, so that a name that resolves to something else the second time passes by nothing.
type guard struct {
	open *ssrf.Guardian
}

func newGuard(allowed []netip.Prefix) *guard {
	var v4, v6 []netip.Prefix
	for _, p := range allowed {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &guard{open: ssrf.New(ssrf.WithAnyPort(), ssrf.WithNetworks("tcp4", "tcp6"),
		ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// errBlocked is in the error of every dial that the guard refused.
type errBlocked struct{ err error }

func (e errBlocked) Error() string { return "blocked address: " + e.err.Error() }
func (e errBlocked) Unwrap() error { return e.err }

// control is a net.Dialer's Control.
func (g *guard) control(network, address string, c syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return errBlocked{fmt.Errorf("%q is not an address", address)}
	}
	ip := addr.Addr().WithZone("").Unmap()
	if alwaysClosed(ip) {
		return errBlocked{fmt.Errorf("%s is link-local or a cloud's metadata service", ip)}
	}
	if err := g.open.SafeAddr(ip); err != nil {
		return errBlocked{err}
	}
	return nil
}

// alwaysClosed names what no configuration opens: link-local addresses, and the metadata services elsewhere.
func alwaysClosed(ip netip.Addr) bool {
	return ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() ||
		ip == azureMetadata || ip == alibabaMetadata || ip == awsMetadataV6
}

var (
	azureMetadata   = netip.AddrFrom4([4]byte{168, 63, 129, 16})
	alibabaMetadata = netip.AddrFrom4([4]byte{100, 100, 100, 200})
	awsMetadataV6   = netip.MustParseAddr("fd00:ec2::254")
)
