package delivery

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

// trap is a listener that nothing may connect to. It counts its connections.
type trap struct {
	listener *net.TCPListener
	conns    int // used by the serving goroutine only
}

// theTest is the first byte of the test's own connection, which does not count.
const theTest = 0xee

// listenOn listens on the same port of several addresses of this machine.
func listenOn(t testing.TB, hosts ...string) []*net.TCPListener {
	t.Helper()
	var err error
	for range 20 { // the port may be in use at one of the addresses
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

// newTrap listens on an address of this machine.
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

// meet serves one connection. It serves one after the other, so those before the test's own connection are counted.
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

// wantNone fails the test if there was any connection but that of the test itself.
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
		tb.Errorf("%d connections reached %s, want none", seen[0], t.addr())
	}
}

// refuse makes the address of a listener refuse connections until the test ends: a socket has the port, and does not listen.
// If the port were free, another test could listen there.
func refuse(t testing.TB, l net.Listener) {
	t.Helper()
	at := netip.MustParseAddrPort(l.Addr().String())
	_ = l.Close()
	family, address := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, address = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, address); err != nil {
		t.Fatal(err)
	}
}

// dropPackets makes a listener behave like an address behind a firewall. Its queue of connections that nobody accepts is full,
// so the kernel drops the first packet of every new connection.
func dropPackets(t testing.TB, l *net.TCPListener) {
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
	t.Fatal("the queue of connections does not become full")
}
