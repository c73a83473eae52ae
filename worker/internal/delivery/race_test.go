package delivery

import (
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// serveAt answers every request at a listener with 200.
func serveAt(t testing.TB, l net.Listener) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: testPatience}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
}

// dualStack returns a configuration whose name server gives every name these addresses.
func dualStack(t testing.TB, addresses ...string) (Config, *nameserver) {
	t.Helper()
	c := allowing("127.0.0.1", "127.0.0.3", "127.0.0.4")
	c.AllowedCIDRs = append(c.AllowedCIDRs, netip.MustParsePrefix("::1/128"))
	names := newNameserver(t, always(addresses...))
	c.Resolver = names.resolver()
	return c, names
}

func portOf(l *net.TCPListener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

// Once, four dead addresses of one family used all the tries, and the good address of the other family was never tried.
func TestDeadAddressesOfOneFamilyLeaveRoomForTheOther(t *testing.T) {
	t.Parallel()
	for good, dead := range map[string]string{"127.0.0.1": "::1", "::1": "127.0.0.1"} {
		listeners := listenOn(t, good, dead)
		serveAt(t, listeners[0])
		dropPackets(t, listeners[1])
		c, _ := dualStack(t, dead, dead, dead, dead, good)
		wantDelivered(t, "at "+good, sendOnce(t, c, messageTo(httpTo("dual.test", portOf(listeners[0])))))
	}
}

func TestRefusedAddressesLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	for good, dead := range map[string]string{"127.0.0.1": "::1", "::1": "127.0.0.1"} {
		listeners := listenOn(t, good, dead)
		serveAt(t, listeners[0])
		refuse(t, listeners[1])
		c, _ := dualStack(t, dead, dead, dead, dead, good)
		wantDelivered(t, "at "+good, sendOnce(t, c, messageTo(httpTo("dual.test", portOf(listeners[0])))))
	}
}

// Two dials run at the same time at most, and none of them uses the time of those that wait.
func TestAddressesThatDropPacketsLeaveTimeForTheNext(t *testing.T) {
	t.Parallel()
	listeners := listenOn(t, "127.0.0.3", "127.0.0.4", "127.0.0.1")
	dropPackets(t, listeners[0])
	dropPackets(t, listeners[1])
	serveAt(t, listeners[2])
	c, _ := dualStack(t, "127.0.0.3", "127.0.0.4", "127.0.0.1")
	c.ConnectTimeout = 4 * time.Second // the first has half of it
	wantDelivered(t, "at the third address", sendOnce(t, c, messageTo(httpTo("three.test", portOf(listeners[2])))))
}

// The second dial waits a quarter of a second for the first. On a loaded machine it may begin all the same, so half of the
// attempts are enough.
func TestAnAddressThatConnectsAtOnceIsTheOnlyOneDialled(t *testing.T) {
	t.Parallel()
	listeners := listenOn(t, "127.0.0.3", "127.0.0.4")
	var dials atomic.Int32
	for _, l := range listeners {
		serveAt(t, countedListener{l, &dials})
	}
	c, _ := dualStack(t, "127.0.0.3", "127.0.0.4")
	const attempts = 20
	alone := 0
	for range attempts {
		dials.Store(0)
		wantDelivered(t, "at the first address", sendOnce(t, c, messageTo(httpTo("two.test", portOf(listeners[0])))))
		if dials.Load() == 1 {
			alone++
		}
	}
	if alone < attempts/2 {
		t.Errorf("in %d of %d attempts only the first address was dialled, want half of them at least: it connects at once", alone, attempts)
	}
}

// countedListener counts connections.
type countedListener struct {
	net.Listener
	accepted *atomic.Int32
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// Some name servers do not answer questions for IPv6 addresses.
func TestANameServerThatAnswersForOneFamilyOnlyIsEnough(t *testing.T) {
	t.Parallel()
	for address, silent := range map[string]int32{"127.0.0.1": dnsAAAA, "::1": dnsA} {
		l := listenOn(t, address)[0]
		serveAt(t, l)
		c, names := dualStack(t, address)
		c.LookupTimeout = time.Hour // so that only the delivery ends the attempt in time
		names.silent.Store(silent)
		wantDelivered(t, address, sendOnce(t, c, messageTo(httpTo("half.test", portOf(l)))))
	}
}

// If the addresses of one family are dead and the lookup of the other hangs, the timeout of the lookup ends the attempt.
func TestAnAttemptWaitsForALookupThatHangsIfNoAddressWorks(t *testing.T) {
	t.Parallel()
	l := listenOn(t, "127.0.0.1")[0]
	port := portOf(l)
	refuse(t, l)
	c, names := dualStack(t, "127.0.0.1")
	c.LookupTimeout = 10 * shortWait // the answer for the other family must arrive within it
	names.silent.Store(dnsAAAA)
	if a := sendOnce(t, c, messageTo(httpTo("half.test", port))); a.Class != ClassConnect {
		t.Errorf("%s, want class %s", describe(a), ClassConnect)
	}
}
