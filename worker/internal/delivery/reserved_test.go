package delivery

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// Nothing is delivered to a service that the worker depends on, by whatever name or address, and its neighbours' ports are
// delivered to.
func TestTheDatabaseAndTheProxyAreNeverDeliveredTo(t *testing.T) {
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
				t.Errorf("%s, with the database at %s: %s", to, host, describe(a))
			}
		}
		wantDelivered(t, "another port", s.Send(t.Context(), messageTo(other.URL)))
	}
	c := allowing("127.0.0.1")
	c.ProxyURL = fmt.Sprintf("socks5://127.0.0.1:%d", database.port())
	if a := sendOnce(t, c, messageTo(httpTo("127.0.0.1", database.port()))); a.Class != ClassBlocked || !strings.Contains(a.Err, "the proxy") {
		t.Errorf("the proxy: %s", describe(a))
	}
	database.wantNone(t)
}

// While nobody can say where a service is, an endpoint at its port fails in the lookup, which is tried again.
func TestAServiceWhoseNameIsNotKnownClosesItsPortForNow(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.Resolver = newNameserver(t, func(string, int) []netip.Addr { return nil }).resolver()
	c.Services = []Service{{What: "the database", Host: "db.test", Port: netip.MustParseAddrPort(strings.TrimPrefix(to.URL, "http://")).Port()}}
	if a := sendOnce(t, c, messageTo(to.URL)); a.Class != ClassDNS || len(to.requests()) > 0 {
		t.Errorf("%s after %d requests", describe(a), len(to.requests()))
	}
}
