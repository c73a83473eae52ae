package delivery

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// The worker sends nothing to a service that it depends on, by no name and no address. It does send to other ports there.
func TestTheWorkerNeverSendsToItsDatabaseOrProxy(t *testing.T) {
	t.Parallel()
	database, other := newTrap(t, "127.0.0.1"), newReceiver(t, nil)
	names := newNameserver(t, always("127.0.0.1"))
	for _, host := range []string{"db.test", "127.0.0.1", "::ffff:127.0.0.1"} {
		c := allowing("127.0.0.1", "127.0.0.2")
		c.AllowedCIDRs = append(c.AllowedCIDRs, netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0"))
		c.Resolver = names.resolver()
		c.Services = []Service{{What: "the database", Host: host, Port: database.port()}}
		s := newSender(t, c)
		for _, to := range []string{"db.test", "alias.test", "127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]"} {
			a := s.Send(t.Context(), messageTo(httpTo(to, database.port())))
			if a.Class != ClassBlocked || !strings.Contains(a.Err, "the database") {
				t.Errorf("%s, with the database at %s: %s, want class %s", to, host, describe(a), ClassBlocked)
			}
		}
		wantDelivered(t, "another port", s.Send(t.Context(), messageTo(other.URL)))
	}
	c := allowing("127.0.0.1")
	c.ProxyURL = fmt.Sprintf("socks5://127.0.0.1:%d", database.port())
	if a := sendOnce(t, c, messageTo(httpTo("127.0.0.1", database.port()))); a.Class != ClassBlocked || !strings.Contains(a.Err, "the proxy") {
		t.Errorf("the proxy: %s, want class %s", describe(a), ClassBlocked)
	}
	database.wantNone(t)
}

// While the name of a service cannot be resolved, an endpoint at the same port fails in the lookup, and is tried again later.
func TestAServiceWhoseNameCannotBeResolvedBlocksItsPortForNow(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.Resolver = newNameserver(t, func(string, int) []netip.Addr { return nil }).resolver()
	c.Services = []Service{{What: "the database", Host: "db.test", Port: netip.MustParseAddrPort(strings.TrimPrefix(to.URL, "http://")).Port()}}
	if a := sendOnce(t, c, messageTo(to.URL)); a.Class != ClassDNS || len(to.requests()) > 0 {
		t.Errorf("%s after %d requests, want class %s and none", describe(a), len(to.requests()), ClassDNS)
	}
}

// The oldest ones are forgotten.
func TestABoundedNumberOfAddressesOfAServiceIsRemembered(t *testing.T) {
	t.Parallel()
	r := newReserved(nil, []Service{{What: "the database", Host: "192.0.2.1", Port: 5432}})
	for i := range byte(reservedMax) {
		r.known[0] = append(r.known[0], netip.AddrFrom4([4]byte{198, 51, 100, i}))
	}
	for what, count := range map[string]int{"198.51.100.0": 0, "198.51.100.1": 1, "198.51.100.63": 1, "192.0.2.1": 1} {
		if err := r.refresh(t.Context(), 5432); err != nil {
			t.Fatal(err)
		}
		if _, found := r.find(netip.MustParseAddr(what), 5432); found != (count == 1) {
			t.Errorf("%s counts as the service: %v, want %v", what, found, count == 1)
		}
	}
	if n := len(r.known[0]); n != reservedMax {
		t.Errorf("%d addresses are remembered, want %d", n, reservedMax)
	}
}
