package delivery

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// In these tests 127.0.0.2 stands for the public internet, and is allowed. 127.0.0.1 stays blocked. Receivers listen on the
// same port of both, so only the address of a name decides which one a request reaches.

// newAllowedReceiver answers on 127.0.0.2, with traps on the same port of the blocked addresses. It closes each connection
// after one request, so that each request needs a lookup of its own.
func newAllowedReceiver(t *testing.T, blocked ...string) (url string, got *atomic.Int64, traps []*trap) {
	t.Helper()
	listeners := listenOn(t, append([]string{"127.0.0.2"}, blocked...)...)
	got = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.Header().Set("Connection", "close")
	}))
	_ = s.Listener.Close()
	s.Listener = listeners[0]
	s.Start()
	t.Cleanup(s.Close)
	for _, l := range listeners[1:] {
		traps = append(traps, trapAt(t, l))
	}
	return httpTo("rebind.test", listeners[0].Addr().(*net.TCPAddr).AddrPort().Port()), got, traps
}

func wantNobody(t *testing.T, traps []*trap) {
	t.Helper()
	for _, trap := range traps {
		trap.wantNone(t)
	}
}

// The resolver returns a public address the first time, and this host's address every time after that.
func TestARebindingResolverReachesNothingBlocked(t *testing.T) {
	t.Parallel()
	url, got, traps := newAllowedReceiver(t, "127.0.0.1")
	names := newNameserver(t, func(_ string, nth int) []netip.Addr {
		if nth == 0 {
			return parseAddrs("127.0.0.2")
		}
		return parseAddrs("127.0.0.1")
	})
	c := allowing("127.0.0.2")
	c.Resolver = names.resolver()

	if a := sendOnce(t, c, messageTo(url)); a.Class != ClassDelivered {
		t.Errorf("the first attempt: class %s: %s; want a delivery", a.Class, a.Err)
	}
	if n := names.asked("rebind.test"); n != 1 {
		t.Errorf("one request made %d lookups, want 1: a second answer could differ from the one that was checked", n)
	}
	for range 5 {
		if a := sendOnce(t, c, messageTo(url)); a.Class != ClassBlocked {
			t.Errorf("a later attempt: class %s: %s; want class %s", a.Class, a.Err, ClassBlocked)
		}
	}
	wantNobody(t, traps)
	if n := got.Load(); n != 1 {
		t.Errorf("the allowed address got %d requests, want 1", n)
	}
}

// The resolver changes its answer at every question, and the questions for IPv4 and IPv6 come in any order.
func TestAResolverThatFlipsAtEveryQuestionReachesNothingBlocked(t *testing.T) {
	t.Parallel()
	url, got, traps := newAllowedReceiver(t, "127.0.0.1")
	var asked atomic.Int64
	names := newNameserver(t, func(string, int) []netip.Addr {
		if asked.Add(1)%2 == 0 {
			return parseAddrs("127.0.0.1", "::1")
		}
		return parseAddrs("127.0.0.2", "::ffff:127.0.0.1")
	})
	c := allowing("127.0.0.2")
	c.Resolver = names.resolver()
	delivered := 0
	for range 40 {
		switch a := sendOnce(t, c, messageTo(url)); a.Class {
		case ClassDelivered:
			delivered++
		case ClassBlocked:
		default:
			t.Errorf("%s: %s", a.Class, a.Err)
		}
	}
	wantNobody(t, traps)
	if n := got.Load(); int(n) != delivered {
		t.Errorf("%d deliveries but %d requests, want as many", delivered, n)
	}
}

// If a name has allowed and blocked addresses, the worker dials only the allowed ones.
func TestOnlyTheAllowedAddressesOfANameAreDialled(t *testing.T) {
	t.Parallel()
	url, got, traps := newAllowedReceiver(t, "127.0.0.1", "::1")
	for _, answers := range [][]string{
		{"127.0.0.1", "127.0.0.2"}, {"127.0.0.2", "127.0.0.1"}, {"::1", "127.0.0.1", "10.0.0.1", "169.254.169.254", "127.0.0.2"},
		{"::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "127.0.0.2"},
	} {
		c := allowing("127.0.0.2")
		c.Resolver = newNameserver(t, always(answers...)).resolver()
		before := got.Load()
		if a := sendOnce(t, c, messageTo(url)); a.Class != ClassDelivered || got.Load() != before+1 {
			t.Errorf("%v: class %s: %s; want a delivery with one request", answers, a.Class, a.Err)
		}
	}
	for _, answers := range [][]string{
		{"127.0.0.1", "::1"}, {"::ffff:127.0.0.2", "::1"}, {"0.0.0.0", "::"}, {"169.254.169.254"}, {"168.63.129.16"}, {"255.255.255.255"},
	} {
		c := allowing("127.0.0.9")
		c.Resolver = newNameserver(t, always(answers...)).resolver()
		if a := sendOnce(t, c, messageTo(url)); a.Class != ClassBlocked {
			t.Errorf("%v: class %s: %s; want class %s", answers, a.Class, a.Err, ClassBlocked)
		}
	}
	wantNobody(t, traps)
}

func TestANameWithoutAddressesFailsInTheLookup(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]func(string, int) []netip.Addr{
		"no such name": func(string, int) []netip.Addr { return nil },
		"no addresses": func(string, int) []netip.Addr { return []netip.Addr{} },
	} {
		c := allowing()
		c.Resolver = newNameserver(t, answer).resolver()
		a := sendOnce(t, c, messageTo("http://nobody.test/?token=secret"))
		if a.Class != ClassDNS || !strings.Contains(a.Err, "lookup") || !strings.Contains(a.Err, "nobody.test") || strings.Contains(a.Err, "secret") {
			t.Errorf("%s: class %s: %s; want class %s, with the name and without the URL", what, a.Class, a.Err, ClassDNS)
		}
	}
}

// The answer of a foreign name server may have hundreds of addresses.
func TestOnlyAFewAddressesOfANameAreTried(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("127.0.1.%d", i+1))
	}
	c := allowing()
	c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.1.0/24")}
	d := &dialer{resolver: net.DefaultResolver, guard: newGuard(c.AllowedCIDRs, nil, nil), connectTimeout: testPatience}
	r := newRace(d, "many.test", 1) // nothing listens there
	r.add(lookup{family: ipv4, ips: parseAddrs(many...)})
	if conn, err := r.run(t.Context()); err == nil {
		_ = conn.Close()
		t.Fatal("there is a connection, want none")
	}
	if r.tried != addressesMax {
		t.Errorf("tried %d addresses, want %d", r.tried, addressesMax)
	}
}

// Blocked addresses are refused in every spelling and under both schemes, and nothing connects to them.
func TestBlockedAddressesAreRefusedAndNotReached(t *testing.T) {
	t.Parallel()
	v4, v6 := newTrap(t, "127.0.0.1"), newTrap(t, "::1")
	var urls []string
	for _, trap := range []*trap{v4, v6} {
		for _, host := range []string{"127.0.0.1", "127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "LOCALHOST"} {
			url := httpTo(host, trap.port())
			urls = append(urls, url, strings.Replace(url, "http:", "https:", 1))
		}
	}
	urls = append(urls, "http://169.254.169.254/latest/meta-data/", "http://168.63.129.16/machine", "http://100.100.100.200/", "http://[fd00:ec2::254]/", "http://255.255.255.255/")
	s := newSender(t, allowing())
	for _, url := range urls {
		if a := s.Send(t.Context(), messageTo(url)); a.Class != ClassBlocked || a.StatusCode != 0 || !strings.Contains(a.Err, "blocked address") {
			t.Errorf("%s: %s, want class %s", url, describe(a), ClassBlocked)
		}
	}
	v4.wantNone(t)
	v6.wantNone(t)
}

// The socket checks the address again, whatever the lookup returned before.
func TestTheSocketItselfRefusesABlockedAddress(t *testing.T) {
	t.Parallel()
	trap := newTrap(t, "127.0.0.1")
	d, err := newDialer(allowing())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.dialOne(t.Context(), trap.addr(), testPatience)
	if err == nil {
		_ = conn.Close()
		t.Fatal("there is a connection, want none")
	}
	if class, text := classify(err); class != ClassBlocked {
		t.Errorf("class %s: %s; want class %s", class, text, ClassBlocked)
	}
	trap.wantNone(t)
}

// A denied address with its port is blocked inside an allowed network. Another port of the address is not.
func TestTheWorkersOwnListenerIsRefusedInAnAllowedNetwork(t *testing.T) {
	t.Parallel()
	own, other := newReceiver(t, nil), newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.DeniedAddrs = []netip.AddrPort{netip.MustParseAddrPort(strings.TrimPrefix(own.URL, "http://"))}
	s := newSender(t, c)
	if a := s.Send(t.Context(), messageTo(own.URL)); a.Class != ClassBlocked || !strings.Contains(a.Err, "own listener") {
		t.Errorf("the worker's own listener: %s, want class %s", describe(a), ClassBlocked)
	}
	wantDelivered(t, "another listener", s.Send(t.Context(), messageTo(other.URL)))
	if n := len(own.requests()); n != 0 {
		t.Errorf("the worker's own listener got %d requests, want none", n)
	}
}

func TestOnlyAllowedPortsAreDialled(t *testing.T) {
	t.Parallel()
	to, other := newReceiver(t, nil), newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.AllowedPorts = []uint16{netip.MustParseAddrPort(strings.TrimPrefix(to.URL, "http://")).Port()}
	s := newSender(t, c)
	wantDelivered(t, "the allowed port", s.Send(t.Context(), messageTo(to.URL)))
	if a := s.Send(t.Context(), messageTo(other.URL)); a.Class != ClassBlocked || len(other.requests()) != 0 {
		t.Errorf("another port: %s, want class %s and no request", describe(a), ClassBlocked)
	}
}

func TestPlainHTTPIsRefusedUnlessItIsAllowed(t *testing.T) {
	t.Parallel()
	to := newSocket(t, hang)
	c := allowing("127.0.0.1")
	c.AllowHTTP = false
	for _, url := range []string{to.URL, strings.Replace(to.URL, "http:", "HTTP:", 1)} {
		if a := sendOnce(t, c, messageTo(url)); a.Class != ClassBlocked || !strings.Contains(a.Err, "AllowHTTP") {
			t.Errorf("%s: %s, want class %s", url, describe(a), ClassBlocked)
		}
	}
	if n := to.conns.Load(); n != 0 {
		t.Errorf("the receiver got %d connections, want none", n)
	}
}
