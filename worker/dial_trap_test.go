package worker

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// trap is a listener that nobody may reach: it counts who does.
type trap struct {
	listener *net.TCPListener
	conns    int // of the serving goroutine, and of others once it said that it is through
}

// theTest is what the test's own connection says, by which the trap tells it from the worker's.
const theTest = 0xee

// listenOn listens on the same port of several hosts.
func listenOn(t testing.TB, hosts ...string) []*net.TCPListener {
	t.Helper()
	var err error
	for range 20 { // the port may be taken on one of them
		var listeners []*net.TCPListener
		port := uint16(0)
		for _, host := range hosts {
			var l *net.TCPListener
			at := netip.AddrPortFrom(netip.MustParseAddr(host), port)
			if l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
				break
			}
			listeners, port = append(listeners, l), l.Addr().(*net.TCPAddr).AddrPort().Port()
		}
		if err == nil {
			return listeners
		}
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	t.Fatal(err)
	return nil
}

// newTrap listens on a host of this machine.
func newTrap(t testing.TB, host string) *trap {
	t.Helper()
	return trapAt(t, listenOn(t, host)[0])
}

func trapAt(t testing.TB, l *net.TCPListener) *trap {
	t.Helper()
	trap := &trap{listener: l}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			trap.meet(conn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return trap
}

// meet serves one connection after the other, so that whoever came first was counted first.
func (t *trap) meet(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testPatience))
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err == nil && first[0] == theTest {
		_, _ = conn.Write([]byte{byte(t.conns)})
		return
	}
	t.conns++
}

func (t *trap) port() uint16 { return t.addr().Port() }

func (t *trap) addr() netip.AddrPort { return t.listener.Addr().(*net.TCPAddr).AddrPort() }

// wantNone fails the test if anybody but the test itself ever connected.
func (t *trap) wantNone(tb testing.TB) {
	tb.Helper()
	conn, err := net.Dial("tcp", t.addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testPatience))
	var seen [1]byte
	if _, err := conn.Write([]byte{theTest}); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(conn, seen[:]); err != nil {
		tb.Fatal(err)
	}
	if seen[0] != 0 {
		tb.Errorf("%d connections reached %s, which is closed", seen[0], t.addr())
	}
}

// swallow makes a listener swallow whoever connects, as a filtered address does: the kernel drops their first packets,
// for the queue of connections that nobody accepts is full.
func swallow(t testing.TB, l *net.TCPListener) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) }); err != nil || listenErr != nil {
		t.Fatal(err, listenErr)
	}
	for range 10 {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue of connections does not fill")
}

// deliverOnce makes one attempt with the deliverer of a configuration.
func deliverOnce(t testing.TB, c Config, m message) answer {
	t.Helper()
	d, err := newDeliverer(c.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	return d.deliver(t.Context(), m)
}

// messageTo is a message as a claim brings it.
func messageTo(url string) message {
	return message{id: outbox.NewID(), runID: "run-1", status: outbox.Succeeded, body: []byte(`{"ok":true}`), url: url, attempt: 1}
}

// direct is a configuration that may talk to the given addresses only.
func direct(hosts ...string) Config {
	c := Config{AllowHTTP: true, DeliveryTimeout: testPatience, Lease: testPatience + LeaseMargin}
	for _, host := range hosts {
		c.AllowedCIDRs = append(c.AllowedCIDRs, netip.PrefixFrom(netip.MustParseAddr(host), 32))
	}
	return c
}

// patient is the rig's configuration for tests that count attempts: no healthy receiver is too slow for it, however
// loaded the machine.
func (r *rig) patient() Config {
	c := r.config()
	c.DeliveryTimeout, c.Lease = testPatience, testPatience+LeaseMargin
	return c
}

// patientOnce leaves what is to be retried where its first attempt left it.
func (r *rig) patientOnce() Config {
	c := r.patient()
	c.RetrySchedule = []time.Duration{time.Hour}
	return c
}

// httpTo is the URL of a host and a port.
func httpTo(host string, port uint16) string { return fmt.Sprintf("http://%s:%d/", host, port) }
