package delivery

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// blockedAddresses has, by kind, all addresses that public filters block (smokescreen, safeurl, Svix and webhookx), and those
// that they miss. Of a network it has the first and the last address.
var blockedAddresses = map[string][]string{
	"this network (RFC 1122)":         {"0.0.0.0", "0.0.0.1", "0.1.2.3", "0.255.255.255"},
	"private (RFC 1918)":              {"10.0.0.0", "10.254.0.0", "10.255.255.255", "172.16.0.0", "172.16.10.65", "172.31.255.255", "192.168.0.0", "192.168.10.65", "192.168.255.255"},
	"shared (RFC 6598)":               {"100.64.0.0", "100.64.0.1", "100.100.0.0", "100.127.255.255"},
	"loopback":                        {"127.0.0.0", "127.0.0.1", "127.0.1.1", "127.127.127.127", "127.255.255.255", "::1"},
	"link-local":                      {"169.254.0.0", "169.254.45.1", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42", "169.254.255.255", "fe80::", "fe80::1", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	"IETF protocols (RFC 6890)":       {"192.0.0.0", "192.0.0.192", "192.0.0.255", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
	"documentation":                   {"192.0.2.0", "192.0.2.255", "198.51.100.65", "203.0.113.6", "2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::1", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
	"benchmarks":                      {"198.18.0.0", "198.19.255.255", "2001:2::1"},
	"AS112 and AMT":                   {"192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1"},
	"6to4 relays":                     {"192.88.99.0", "192.88.99.255"},
	"multicast":                       {"224.0.0.0", "224.0.0.1", "239.255.255.255", "ff00::", "ff02::1", "ff02::2", "ff0e::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	"reserved and broadcast":          {"240.0.0.0", "250.10.20.30", "255.255.255.254", "255.255.255.255"},
	"unspecified":                     {"::"},
	"unique local (RFC 4193)":         {"fc00::", "fc00::1", "fd00::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	"site-local (deprecated)":         {"fec0::1", "feff::1"},
	"discard only":                    {"100::", "100::1", "100:0:0:1::1"},
	"Teredo":                          {"2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:1234:5678:9abc:def0:1234:5678"},
	"ORCHID":                          {"2001:10::1", "2001:20::1"},
	"segment routing":                 {"5f00::1"},
	"outside of 2000::/3":             {"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::1", "64:ff9c::1", "1::1", "8000::1"},
	"IPv4-mapped":                     {"::ffff:127.0.0.1", "::ffff:0.0.0.1", "::ffff:10.0.0.1", "::ffff:192.0.2.1", "::ffff:192.168.1.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16", "::ffff:0:0"},
	"IPv4-compatible and -translated": {"::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"},
	"NAT64":                           {"64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::ac1c:5", "64:ff9b::c000:201", "64:ff9b::808:808", "64:ff9b::ffff:ffff", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "64:ff9b:1::808:808"},
	"6to4":                            {"2002:7f00:1::", "2002:a00:1::1", "2002:c000:201::1", "2002:808:808::1", "2002:a9fe:a9fe::1"},
	"ISATAP":                          {"2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1", "2606:4700::5efe:a9fe:a9fe", "fe80::5efe:127.0.0.1"},
	"metadata of clouds":              {"168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "2606:4700::5efe:a83f:8110"},
	"with a zone":                     {"fe80::1%eth0", "::1%lo", "fd00::1%0", "::%1"},
}

func TestTheUnionOfThePublicListsIsBlocked(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, nil, nil)
	for list, addresses := range blockedAddresses {
		for _, ip := range parseAddrs(addresses...) {
			for _, port := range []uint16{80, 443, 8080} {
				if !isBlocked(g.check(netip.AddrPortFrom(ip, port))) {
					t.Errorf("%s: %s is allowed, want it blocked", list, ip)
				}
			}
			if err := g.control("tcp", netip.AddrPortFrom(ip, 443).String(), nil); !isBlocked(err) {
				t.Errorf("%s: a socket may connect to %s, want it blocked", list, ip)
			}
		}
	}
}

func isBlocked(err error) bool {
	var blocked blockedError
	return errors.As(err, &blocked)
}

func TestPublicAddressesAreAllowed(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, nil, nil)
	for _, ip := range parseAddrs(
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"::ffff:8.8.8.8", "2001:4860:4860::8888", "2606:4700:4700::1111", "2001:200::1", "2a00:1450:4001:81b::200e",
		"2606:4700::5efe:8.8.8.8",
	) {
		if err := g.check(netip.AddrPortFrom(ip, 443)); err != nil {
			t.Errorf("%s: got the error %v, want it allowed", ip, err)
		}
	}
}

func TestAllowedCIDRsAllowTheirAddressesAndNoOthers(t *testing.T) {
	t.Parallel()
	g := newGuard([]netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("fd12::/16"),
		netip.MustParsePrefix("::ffff:172.16.1.0/120"), netip.MustParsePrefix("64:ff9b::/96"),
	}, nil, nil)
	for text, allowed := range map[string]bool{
		"10.1.0.1": true, "10.1.255.255": true, "10.2.0.1": false, "10.0.0.1": false,
		"127.0.0.2": true, "127.0.0.1": false, "127.0.0.3": false,
		"fd12::1": true, "fd12::1%eth0": true, "fd13::1": false, "::ffff:10.1.0.1": true, "::ffff:10.2.0.1": false,
		"172.16.1.5": true, "::ffff:172.16.1.5": true, "172.16.2.5": false,
		"64:ff9b::8.8.8.8": true, "64:ff9b::10.1.0.1": true, "64:ff9b::10.2.0.1": false, "64:ff9b::127.0.0.1": false,
		"64:ff9b::169.254.169.254": false, "64:ff9b::168.63.129.16": false,
		"fd12::5efe:127.0.0.1": false, "fd12::5efe:10.1.0.1": true, "fd12::200:5efe:192.168.0.1": false,
	} {
		if err := g.check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); allowed != (err == nil) {
			t.Errorf("%s: is it allowed? got %v, want %v (%v)", text, err == nil, allowed, err)
		}
	}
}

// Some addresses stay blocked whatever an operator allows.
func TestSomeAddressesAreNeverAllowed(t *testing.T) {
	t.Parallel()
	everything := newGuard([]netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("169.254.169.254/32"),
		netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00::/8"),
	}, nil, nil)
	for _, list := range []string{"link-local", "multicast", "unspecified", "metadata of clouds"} {
		for _, ip := range parseAddrs(blockedAddresses[list]...) {
			if !isBlocked(everything.check(netip.AddrPortFrom(ip, 80))) {
				t.Errorf("%s: %s is allowed, want it blocked", list, ip)
			}
		}
	}
	for _, ip := range parseAddrs(
		"255.255.255.255", "192.0.0.192", "0.0.0.0", "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe",
		"2002:a9fe:a9fe::", "2002:a83f:8110::1", "2606:4700::5efe:a9fe:a9fe", "::ffff:168.63.129.16", "fe80::1%eth0", "ff02::1%eth0",
	) {
		if !isBlocked(everything.check(netip.AddrPortFrom(ip, 80))) {
			t.Errorf("%s is allowed, want it blocked", ip)
		}
	}
	for _, ip := range parseAddrs("127.0.0.1", "10.0.0.1", "::1", "fd12::1", "8.8.8.8") { // if these were blocked, the test would prove nothing
		if err := everything.check(netip.AddrPortFrom(ip, 80)); err != nil {
			t.Error(err)
		}
	}
}

// The worker's own listeners are blocked at every address by which they can be reached.
func TestTheWorkersOwnListenersAreBlocked(t *testing.T) {
	t.Parallel()
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	one := newGuard(all, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.5:9090"), netip.MustParseAddrPort("[::ffff:127.0.0.6]:9090")}, nil)
	for text, allowed := range map[string]bool{
		"127.0.0.5:9090": false, "[::ffff:127.0.0.5]:9090": false, "127.0.0.6:9090": false,
		"127.0.0.5:9091": true, "127.0.0.7:9090": true,
	} {
		if err := one.check(netip.MustParseAddrPort(text)); allowed != (err == nil) {
			t.Errorf("%s: got the error %v, want it allowed: %v", text, err, allowed)
		}
	}

	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, unspecified := range []string{"0.0.0.0:9090", "[::]:9090"} {
		g := newGuard(all, []netip.AddrPort{netip.MustParseAddrPort(unspecified)}, nil)
		for _, text := range []string{"127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"} {
			if !isBlocked(g.check(netip.AddrPortFrom(netip.MustParseAddr(text), 9090))) {
				t.Errorf("the listener on %[2]s can be reached at %[1]s, want it blocked", text, unspecified)
			}
		}
		for _, a := range interfaces {
			ip, _ := netip.AddrFromSlice(a.(*net.IPNet).IP)
			if !isBlocked(g.check(netip.AddrPortFrom(ip, 9090))) {
				t.Errorf("the listener on %[2]s can be reached at %[1]s of this host, want it blocked", ip, unspecified)
			}
		}
		if err := g.check(netip.MustParseAddrPort("8.8.8.8:9090")); err != nil {
			t.Errorf("the same port of another host: got the error %v, want it allowed", err)
		}
	}
}

func TestAllowedPortsBlockEveryOtherPort(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, nil, []uint16{443, 8443})
	for port, allowed := range map[uint16]bool{443: true, 8443: true, 80: false, 22: false, 25: false, 5432: false, 0: false} {
		err := g.check(netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), port))
		if allowed != (err == nil) {
			t.Errorf("port %d: got the error %v, want it allowed: %v", port, err, allowed)
		}
		if err != nil && !strings.Contains(err.Error(), "[443 8443]") {
			t.Errorf("the error is %v, want the allowed ports [443 8443] in it", err)
		}
	}
	if !isBlocked(g.check(netip.MustParseAddrPort("127.0.0.1:443"))) {
		t.Error("a blocked address is allowed at an allowed port, want it blocked")
	}
}

func TestAnErrorNamesTheAddressAndTheSettingThatAllowsIt(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, []netip.AddrPort{netip.MustParseAddrPort("8.8.4.4:443")}, nil)
	for text, wants := range map[string][]string{
		"10.0.0.1:443":         {"blocked address", "10.0.0.1", "AllowedCIDRs"},
		"169.254.169.254:80":   {"169.254.169.254", "link-local"},
		"8.8.4.4:443":          {"8.8.4.4:443", "own listener"},
		"[2002:a00:1::1]:443":  {"2002:a00:1::1", "AllowedCIDRs"},
		"[64:ff9b::a00:1]:443": {"64:ff9b::a00:1"},
	} {
		err := g.check(netip.MustParseAddrPort(text))
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error is %v, want %q in it", text, err, want)
			}
		}
	}
}

// With ::/0 allowed, the worker's own listener could be reached by IPv6 addresses that contain its IPv4 address: translators
// and tunnels take them apart.
func TestADeniedAddressIsBlockedInsideAnother(t *testing.T) {
	t.Parallel()
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		[]netip.AddrPort{netip.MustParseAddrPort("127.0.0.5:9090")}, nil)
	for _, inside := range []string{
		"64:ff9b::127.0.0.5", "64:ff9b:1::127.0.0.5", "2002:7f00:5::1", "::127.0.0.5", "::ffff:0:127.0.0.5", "2606:4700::5efe:127.0.0.5",
		"2001:0:808:808:0:0:80ff:fffa" /* a Teredo client */, "2001:0:7f00:5:0:0:f7f7:f7f7", /* a Teredo server */
	} {
		if ip := netip.MustParseAddr(inside); !isBlocked(g.check(netip.AddrPortFrom(ip, 9090))) || isBlocked(g.check(netip.AddrPortFrom(ip, 9091))) {
			t.Errorf("%s: got the error %v at the listener's port, want one, and %v at another, want none", ip, g.check(netip.AddrPortFrom(ip, 9090)), g.check(netip.AddrPortFrom(ip, 9091)))
		}
	}
}

// ::1 lies in the network of the IPv6 addresses that contain an IPv4 address, and would contain 0.0.0.1. It is the loopback
// address all the same.
func TestTheIPv6LoopbackAddressCanBeAllowed(t *testing.T) {
	t.Parallel()
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("::1/128")}, nil, nil)
	if err := g.check(netip.MustParseAddrPort("[::1]:80")); err != nil {
		t.Error(err)
	}
}
