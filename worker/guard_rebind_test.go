package worker

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// In these tests 127.0.0.2 stands for the public internet, for it is opened; 127.0.0.1 stays closed. Both listen on the
// same port, so that a name's address alone decides who is reached.

// newOpenReceiver answers on 127.0.0.2, with traps on the same port of the hosts that are closed. It ends each
// connection, so that each request needs a lookup of its own.
func newOpenReceiver(t *testing.T, closed ...string) (url string, got *atomic.Int64, traps []*trap) {
	t.Helper()
	listeners := listenOn(t, append([]string{"127.0.0.2"}, closed...)...)
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

// TestARebindingResolverReachesNothingClosed: it says a public address the first time, and this host's ever after.
func TestARebindingResolverReachesNothingClosed(t *testing.T) {
	t.Parallel()
	url, got, traps := newOpenReceiver(t, "127.0.0.1")
	names := newNameserver(t, func(_ string, nth int) []netip.Addr {
		if nth == 0 {
			return parseAddrs("127.0.0.2")
		}
		return parseAddrs("127.0.0.1")
	})
	c := direct("127.0.0.2")
	c.resolver = names.resolver()

	if a := deliverOnce(t, c, messageTo(url)); a.class != classDelivered {
		t.Errorf("first: %s: %s", a.class, a.err)
	}
	if n := names.asked("rebind.test"); n != 1 {
		t.Errorf("one request asked %d times: a second answer could differ from the one that was checked", n)
	}
	for range 5 {
		if a := deliverOnce(t, c, messageTo(url)); a.class != classBlocked {
			t.Errorf("later: %s: %s", a.class, a.err)
		}
	}
	wantNobody(t, traps)
	if n := got.Load(); n != 1 {
		t.Errorf("the open address got %d requests, want 1", n)
	}
}

// TestAResolverThatFlipsAtEveryQuestionReachesNothingClosed, whatever order its answers come in.
func TestAResolverThatFlipsAtEveryQuestionReachesNothingClosed(t *testing.T) {
	t.Parallel()
	url, got, traps := newOpenReceiver(t, "127.0.0.1")
	var asked atomic.Int64
	names := newNameserver(t, func(string, int) []netip.Addr {
		if asked.Add(1)%2 == 0 {
			return parseAddrs("127.0.0.1", "::1")
		}
		return parseAddrs("127.0.0.2", "::ffff:127.0.0.1")
	})
	c := direct("127.0.0.2")
	c.resolver = names.resolver()
	delivered := 0
	for range 40 {
		switch a := deliverOnce(t, c, messageTo(url)); a.class {
		case classDelivered:
			delivered++
		case classBlocked:
		default:
			t.Errorf("%s: %s", a.class, a.err)
		}
	}
	wantNobody(t, traps)
	if n := got.Load(); int(n) != delivered {
		t.Errorf("%d deliveries, %d requests", delivered, n)
	}
}

// TestOfMixedAnswersOnlyTheOpenOnesAreDialled.
func TestOfMixedAnswersOnlyTheOpenOnesAreDialled(t *testing.T) {
	t.Parallel()
	url, got, traps := newOpenReceiver(t, "127.0.0.1", "::1")
	for _, answers := range [][]string{
		{"127.0.0.1", "127.0.0.2"}, {"127.0.0.2", "127.0.0.1"}, {"::1", "127.0.0.1", "10.0.0.1", "169.254.169.254", "127.0.0.2"},
		{"::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "127.0.0.2"},
	} {
		c := direct("127.0.0.2")
		c.resolver = newNameserver(t, always(answers...)).resolver()
		before := got.Load()
		if a := deliverOnce(t, c, messageTo(url)); a.class != classDelivered || got.Load() != before+1 {
			t.Errorf("%v: %s: %s", answers, a.class, a.err)
		}
	}
	for _, answers := range [][]string{
		{"127.0.0.1", "::1"}, {"::ffff:127.0.0.2", "::1"}, {"0.0.0.0", "::"}, {"169.254.169.254"}, {"168.63.129.16"}, {"255.255.255.255"},
	} {
		c := direct("127.0.0.9")
		c.resolver = newNameserver(t, always(answers...)).resolver()
		if a := deliverOnce(t, c, messageTo(url)); a.class != classBlocked {
			t.Errorf("%v: %s: %s", answers, a.class, a.err)
		}
	}
	wantNobody(t, traps)
}

func TestANameWithoutAddressesIsALookupsFault(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]func(string, int) []netip.Addr{
		"no such name": func(string, int) []netip.Addr { return nil },
		"no addresses": func(string, int) []netip.Addr { return []netip.Addr{} },
	} {
		c := direct()
		c.resolver = newNameserver(t, answer).resolver()
		a := deliverOnce(t, c, messageTo("http://nobody.test/?token=secret"))
		if a.class != classDNS || !strings.Contains(a.err, "lookup") || !strings.Contains(a.err, "nobody.test") || strings.Contains(a.err, "secret") {
			t.Errorf("%s: %s: %s", what, a.class, a.err)
		}
	}
}

// TestNoMoreThanAFewAddressesOfANameAreTried: a stranger's answer may hold hundreds.
func TestNoMoreThanAFewAddressesOfANameAreTried(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("127.0.1.%d", i+1))
	}
	c := direct()
	c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.1.0/24")}
	d := &dialer{resolver: newNameserver(t, always(many...)).resolver(), guard: newGuard(c.AllowedCIDRs, nil, nil), lookup: testPatience}
	addresses, err := d.resolve(t.Context(), "many.test:80")
	if err != nil || len(addresses) != addressesMax {
		t.Errorf("%d addresses are tried (%v), want %d", len(addresses), err, addressesMax)
	}
}

// TestTheWorkerRefusesClosedAddressesForGood, end to end: a row, a claim, and a dead message that says why.
func TestTheWorkerRefusesClosedAddressesForGood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	trap := newTrap(t, "127.0.0.1")
	open, own := newReceiver(t, nil), newReceiver(t, nil)
	var urls []string
	for _, host := range []string{"127.0.0.1", "127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "LOCALHOST"} {
		urls = append(urls, httpTo(host, trap.port()))
	}
	urls = append(urls, "http://169.254.169.254/latest/meta-data/", "http://168.63.129.16/machine", "http://100.100.100.200/", "http://[fd00:ec2::254]/", "http://255.255.255.255/")
	opened := len(urls)          // what follows is tried again when the network is open
	urls = append(urls, own.URL) // the worker's own listener, in a network that is open
	port := netip.MustParseAddrPort(strings.TrimPrefix(open.URL, "http://")).Port()
	urls = append(urls, httpTo("127.0.0.1", port)) // the only one that may be reached
	ids := r.writeAll(urls...)

	c := r.patientOnce()
	c.AllowedCIDRs = nil
	c.DeniedAddrs = []netip.AddrPort{netip.MustParseAddrPort(strings.TrimPrefix(own.URL, "http://"))}
	_, stop := r.run(c)
	for i, id := range ids {
		d := r.awaitState(id, outbox.StateDead)
		if *d.DeadReason != "refused" || len(d.AttemptList) != 1 || *d.LastClass != classBlocked || !strings.Contains(*d.DeadError, "blocked address") {
			t.Errorf("%s: %s, %d attempts, %s: %s", urls[i], *d.DeadReason, d.Attempts, *d.LastClass, *d.DeadError)
		}
	}
	stop()
	trap.wantNone(t)

	c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if _, err := r.store.Replay(t.Context(), ids[opened:], ""); err != nil {
		t.Fatal(err)
	}
	r.run(c)
	r.awaitState(ids[opened+1], outbox.StateDelivered)
	if d := r.awaitState(ids[opened], outbox.StateDead); !strings.Contains(*d.DeadError, "own listener") {
		t.Errorf("the own listener: %s", *d.DeadError)
	}
	if n := len(own.requests()); n != 0 {
		t.Errorf("the worker's own listener got %d requests", n)
	}
}
