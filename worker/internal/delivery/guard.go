package delivery

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// guard blocks every address that is not public unicast, unless the configuration allows its network. It checks each
// address of a lookup, and again the address that a socket is about to connect to, so nothing can change in between.
type guard struct {
	public *ssrf.Guardian   // knows the public networks, and those of AllowedCIDRs
	denied []netip.AddrPort // the worker's own listeners; an unspecified address stands for every address of this host
	ports  []uint16         // the allowed ports; any when empty

	reserved *reserved // the database and the proxy; nil without any

	trusts bool // allows every address: the URL is the operator's own (event.go)
}

func newGuard(allowed []netip.Prefix, denied []netip.AddrPort, ports []uint16) *guard {
	var v4, v6 []netip.Prefix
	for _, p := range allowed {
		if p.Addr().Is4In6() && p.Bits() >= 96 { // ::ffff:10.0.0.0/104 is 10.0.0.0/8, because addresses are checked in their IPv4 form
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &guard{
		public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork(),
			ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
		denied: denied, ports: ports,
	}
}

// blockedError is the error of an address that the guard blocks.
type blockedError struct{ err error }

func (e blockedError) Error() string { return "blocked address: " + e.err.Error() }
func (e blockedError) Unwrap() error { return e.err }

// control is the Control of a net.Dialer.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return blockedError{fmt.Errorf("%q is not an address", address)}
	}
	return g.check(addr)
}

// check returns nil for an address that may be dialled, or else a blockedError. When an IPv6 address carries an IPv4
// address, both must be allowed.
func (g *guard) check(addr netip.AddrPort) error {
	if g.trusts {
		return nil
	}
	ip := addr.Addr().WithZone("").Unmap()
	if err := g.checkPort(addr.Port()); err != nil {
		return err
	}
	if err := g.checkIP(ip, addr.Port()); err != nil {
		return blockedError{err}
	}
	for _, v4 := range embedded(ip) {
		if err := g.checkIP(v4, addr.Port()); err != nil {
			return blockedError{fmt.Errorf("%s inside %s: %w", v4, ip, err)}
		}
	}
	return nil
}

func (g *guard) checkPort(port uint16) error {
	if len(g.ports) > 0 && !slices.Contains(g.ports, port) {
		return blockedError{fmt.Errorf("port %d is not among those allowed (%v)", port, g.ports)}
	}
	return nil
}

// isOwn reports whether a listener of the worker is reached at this address and port.
func isOwn(listener netip.AddrPort, ip netip.Addr, port uint16) bool {
	if listener.Port() != port {
		return false
	}
	return listener.Addr().Unmap() == ip || listener.Addr().IsUnspecified() && isOfThisHost(ip)
}

// isOfThisHost lists the interfaces on every call, because they come and go. When they cannot be listed, it reports true.
func isOfThisHost(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip.AsSlice())
	})
}

func (g *guard) checkIP(ip netip.Addr, port uint16) error {
	if slices.ContainsFunc(g.denied, func(own netip.AddrPort) bool { return isOwn(own, ip, port) }) {
		return fmt.Errorf("%s is the worker's own listener", netip.AddrPortFrom(ip, port))
	}
	if what, ok := g.reserved.find(ip, port); ok {
		return fmt.Errorf("%s is the address of %s", netip.AddrPortFrom(ip, port), what)
	}
	if isNeverAllowed(ip) {
		return fmt.Errorf("%s is link-local, not unicast or a cloud's metadata service", ip)
	}
	if err := g.public.SafeAddr(ip); err != nil {
		return notPublicError{ip}
	}
	return nil
}

// notPublicError replaces the library's text, which quotes its tables.
type notPublicError struct{ ip netip.Addr }

func (e notPublicError) Error() string {
	return fmt.Sprintf("%s is not a public address (AllowedCIDRs allows networks)", e.ip)
}

// isNeverAllowed reports an address that no configuration allows: it is link-local, not unicast, or in neverAllowed.
func isNeverAllowed(ip netip.Addr) bool {
	return ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || slices.Contains(neverAllowed, ip)
}

// neverAllowed are the broadcast address, and the metadata services of clouds outside of the link-local networks.
var neverAllowed = []netip.Addr{
	netip.AddrFrom4([4]byte{255, 255, 255, 255}),
	netip.AddrFrom4([4]byte{168, 63, 129, 16}),   // Azure, among public addresses
	netip.AddrFrom4([4]byte{100, 100, 100, 200}), // Alibaba
	netip.AddrFrom4([4]byte{192, 0, 0, 192}),     // Oracle, classic
	netip.MustParseAddr("fd00:ec2::254"),         // AWS
	netip.MustParseAddr("fd00:ec2::23"),          // AWS, credentials of a pod
	netip.MustParseAddr("fd20:ce::254"),          // Google
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"),    // Oracle
	netip.MustParseAddr("fd00:42::42"),           // Scaleway
}

// carriers are the networks whose IPv6 addresses contain an IPv4 address, with the index of its first byte, and what its bits are
// combined with.
var carriers = []struct {
	prefix netip.Prefix
	at     int
	xor    byte
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12, 0},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0},  // local-use NAT64 (RFC 8215), with a /96 prefix
	{netip.MustParsePrefix("2002::/16"), 2, 0},        // 6to4 (RFC 3056)
	{netip.MustParsePrefix("2001::/32"), 4, 0},        // Teredo's server (RFC 4380, section 4)
	{netip.MustParsePrefix("2001::/32"), 12, 0xff},    // Teredo's client, with its bits inverted
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, 0}, // IPv4-translated (RFC 2765)
	{netip.MustParsePrefix("::/96"), 12, 0},           // IPv4-compatible (RFC 4291, deprecated)
}

// embedded returns the IPv4 addresses that an IPv6 address contains: two at most.
func embedded(ip netip.Addr) (carried []netip.Addr) {
	if !ip.Is6() || ip.IsLoopback() {
		return nil
	}
	bytes := ip.As16()
	for _, c := range carriers {
		if c.prefix.Contains(ip) {
			v4 := [4]byte(bytes[c.at : c.at+4])
			for i := range v4 {
				v4[i] ^= c.xor
			}
			carried = append(carried, netip.AddrFrom4(v4))
		}
	}
	if isatap := bytes[8]&0xfd == 0 && bytes[9] == 0 && bytes[10] == 0x5e && bytes[11] == 0xfe; isatap { // RFC 5214
		carried = append(carried, netip.AddrFrom4([4]byte(bytes[12:16])))
	}
	return carried
}
