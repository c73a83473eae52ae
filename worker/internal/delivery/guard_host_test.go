package delivery

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// loopbackSpellings are ways to write this host that a filter on text does not notice: the cases of safeurl, and those of
// well-known lists of bypasses. The resolver decides which of them is an address and which is a name.
var loopbackSpellings = []string{
	"127.0.0.1", "127.127.127.127", "2130706433", "017700000001", "0x7f000001", "0X7F000001", "0x7f.1", "0x7f.0x0.0x0.0x1",
	"0x0000007f.0x00000000.0x00000000.0x00000001", "0x7f.0x0.0x00000000.0x01", "0177.0.0.1", "0177.0x0.0x0.0x1", "127.1",
	"127.0.1", "127.0.0.1.", "127.000.000.001", "0000000177.0.0.1", "0", "0.0.0.0", "0x0", "00", "0.0", "localhost", "localhost.",
	"LOCALHOST", "LocalHost", "a.localhost", "a.b.localhost.", "localhost.localdomain", "ip6-localhost",
	"::1", "0000::1", "0:0:0:0:0:0:0:1", "::", "0::0", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::7f00:1",
	"64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "2002:7f00:1::1", "fe80::5efe:127.0.0.1", "2606:4700::5efe:127.0.0.1",
	"::1%lo", "::ffff:127.0.0.1%1", "fe80::1%lo", "::1%25lo",
}

// otherSpellings are ways to write other blocked addresses.
var otherSpellings = []string{
	"3232235777", "0xc0a80014", "10.1", "10.0.513", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.169.254", "169.254.169.254.",
	"metadata.google.internal", "metadata", "instance-data", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254",
	"255.255.255.255", "0xffffffff", "224.0.0.1", "::ffff:192.0.2.1", "::ffff:169.254.169.254", "2002:a9fe:a9fe::",
}

// The worker connects to no spelling of a blocked address. The nameserver resolves every name to this host, because the owner
// of a name decides what it resolves to.
func TestTheWorkerConnectsToNoSpellingOfABlockedAddress(t *testing.T) {
	t.Parallel()
	v4, v6 := newTrap(t, "127.0.0.1"), newTrap(t, "::1")
	names := newNameserver(t, always("127.0.0.1", "::1", "169.254.169.254", "10.0.0.1"))
	c := allowing()
	c.Resolver = names.resolver()
	s := newSender(t, c)
	for _, host := range append(append([]string(nil), loopbackSpellings...), otherSpellings...) {
		for _, trap := range []*trap{v4, v6} {
			wantNoConnection(t, s, host, trap.port())
		}
	}
	v4.wantNone(t)
	v6.wantNone(t)
}

// wantNoConnection tries a host in two ways: it dials the host itself, and sends to a URL with it.
func wantNoConnection(t *testing.T, s *Sender, host string, port uint16) {
	t.Helper()
	address := net.JoinHostPort(host, fmt.Sprint(port))
	if conn, err := s.transport.DialContext(t.Context(), "tcp", address); err == nil {
		_ = conn.Close()
		t.Errorf("there is a connection to %s, want none", host)
	} else if class, text := classify(err); class != ClassBlocked && class != ClassDNS {
		t.Errorf("%s: class %s: %s; want class %s or %s", host, class, text, ClassBlocked, ClassDNS)
	}
	for _, scheme := range []string{"http", "https"} {
		a := s.Send(t.Context(), messageTo(scheme+"://"+strings.ReplaceAll(address, "%", "%25")+"/server-status"))
		if a.Class != ClassBlocked && a.Class != ClassDNS {
			t.Errorf("%s://%s: class %s: %s; want class %s or %s", scheme, host, a.Class, a.Err, ClassBlocked, ClassDNS)
		}
	}
}

// net/http turns a host into ASCII before it looks it up. This turns full-width digits and circled letters into plain ones.
func TestUnicodeSpellingsAreBlocked(t *testing.T) {
	t.Parallel()
	trap := newTrap(t, "127.0.0.1")
	c := allowing()
	c.Resolver = newNameserver(t, always("127.0.0.1")).resolver()
	for _, host := range []string{"１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌocalhost", "localhoſt"} {
		if a := sendOnce(t, c, messageTo(httpTo(host, trap.port()))); a.Class == ClassDelivered {
			t.Errorf("%s: class %s, want no delivery", host, a.Class)
		}
	}
	trap.wantNone(t)
}

// asTheSystem marks a run of this test binary that looks names up with the C library.
const asTheSystem = "EPILOGUE_TEST_NAMES"

// This test runs in its own process. The C library accepts octal, hexadecimal, decimal and short forms as addresses, and Go's
// own resolver does not. The machine decides which of the two Go uses.
func TestTheSystemsResolverReachesNothingBlocked(t *testing.T) {
	t.Parallel()
	if os.Getenv(asTheSystem) == "" {
		runAgain(t, asTheSystem+"=1", "GODEBUG=netdns=cgo")
		return
	}
	trap := newTrap(t, "127.0.0.1")
	s := newSender(t, allowing())
	for _, host := range loopbackSpellings {
		if strings.Trim(strings.ToLower(host), "0123456789abcdefx.") == "" || strings.EqualFold(host, "localhost") { // the C library needs no nameserver for it
			wantNoConnection(t, s, host, trap.port())
		}
	}
	trap.wantNone(t)
}

// runAgain runs the calling test again, alone, in a process with more environment variables.
func runAgain(t *testing.T, settings ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), settings...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("the test failed in its own process: %v\n%s", err, out)
	}
}

const underProxies = "EPILOGUE_TEST_PROXIES"

// The worker does not use the proxies that the environment names: they would connect to addresses that the guard blocks, and
// nobody configured them for this worker.
func TestTheEnvironmentsProxiesAreNotUsed(t *testing.T) {
	t.Parallel()
	if os.Getenv(underProxies) == "" {
		trap := newTrap(t, "127.0.0.1")
		settings := []string{underProxies + "=1", "NO_PROXY=", "no_proxy="}
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
			settings = append(settings, name+"=http://"+trap.addr().String())
		}
		runAgain(t, settings...)
		trap.wantNone(t)
		return
	}
	req := &http.Request{URL: &url.URL{Scheme: "http", Host: "receiver.test"}}
	if proxy, err := http.ProxyFromEnvironment(req); err != nil || proxy == nil {
		t.Fatalf("the environment names no proxy (%v, %v), so the test proves nothing", proxy, err)
	}
	to := newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.Resolver = newNameserver(t, always("127.0.0.1")).resolver() // a name, because net/http uses no proxy for a loopback address
	port := netip.MustParseAddrPort(strings.TrimPrefix(to.URL, "http://")).Port()
	if a := sendOnce(t, c, messageTo(httpTo("receiver.test", port))); a.Class != ClassDelivered {
		t.Errorf("http: class %s: %s; want a delivery", a.Class, a.Err)
	}
	if a := sendOnce(t, c, messageTo(fmt.Sprintf("https://receiver.test:%d/", port))); a.Class != ClassTLS {
		t.Errorf("https: class %s: %s; want class %s, from the receiver", a.Class, a.Err, ClassTLS)
	}
}
