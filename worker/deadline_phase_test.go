package worker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hanging is a receiver that hangs in one phase of a request.
type hanging struct {
	phase string
	url   func(t *testing.T, c *Config) string // starts it; c is the worker's configuration
	bound func(c *Config) *time.Duration       // the phase's own deadline
	own   string                               // what an attempt says that the phase's own deadline ended
}

const shortWait = 200 * time.Millisecond

func hangingPhases() []hanging {
	return []hanging{
		{"lookup", func(t *testing.T, c *Config) string {
			c.resolver = newNameserver(t, nil).resolver()
			return "http://receiver.test/"
		}, func(c *Config) *time.Duration { return &c.LookupTimeout }, "lookup took longer than 200ms"},
		{"connect", func(t *testing.T, _ *Config) string {
			l := listenOn(t, "127.0.0.3")[0]
			swallow(t, l)
			return "http://" + l.Addr().String() + "/"
		}, func(c *Config) *time.Duration { return &c.ConnectTimeout }, "connect took longer than 200ms"},
		{"TLS handshake", func(t *testing.T, _ *Config) string {
			return newSocket(t, hang).overTLS()
		}, func(c *Config) *time.Duration { return &c.TLSTimeout }, "TLS handshake took longer than 200ms"},
		{"wait for an answer", func(t *testing.T, _ *Config) string {
			return newSocket(t, hang).URL
		}, func(c *Config) *time.Duration { return &c.HeaderTimeout }, "awaiting response headers"},
		{"wait for an answer", func(t *testing.T, _ *Config) string { // byte for byte, never at its end
			return newSocket(t, func(conn net.Conn) {
				readRequest(conn)
				drip(conn, "HTTP/1.1 200 OK\r\nX-Slow: ", "a")
			}).URL
		}, func(c *Config) *time.Duration { return &c.HeaderTimeout }, "awaiting response headers"},
		{"response body", func(t *testing.T, _ *Config) string {
			return newSocket(t, func(conn net.Conn) {
				readRequest(conn)
				drip(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "a")
			}).URL
		}, nil, ""},
	}
}

// drip says something at once, and then a little more again and again, until the other side has enough.
func drip(conn net.Conn, first, drop string) {
	_, err := io.WriteString(conn, first)
	for ; err == nil; _, err = io.WriteString(conn, drop) {
		time.Sleep(10 * time.Millisecond) // a slow sender
	}
}

// TestEachPhaseHasADeadline: one attempt that names the phase, and the only slot is free again for somebody else.
func TestEachPhaseHasADeadline(t *testing.T) {
	t.Parallel()
	for i, h := range hangingPhases() {
		if h.bound == nil { // the whole's deadline is the only one
			continue
		}
		t.Run(fmt.Sprint(i, " ", h.phase), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := oneSlot(r)
			url := h.url(t, &c)
			*h.bound(&c) = shortWait
			wantOneTimeout(t, r, c, url, 0, h.own)
		})
	}
}

// TestTheWholeDeadlineEndsEveryPhase, and the attempt says which one it was. It is the message's own, and shorter than
// the worker's.
func TestTheWholeDeadlineEndsEveryPhase(t *testing.T) {
	t.Parallel()
	for i, h := range hangingPhases() {
		t.Run(fmt.Sprint(i, " ", h.phase), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := oneSlot(r)
			url := h.url(t, &c)
			// Long enough for a loaded machine to come as far as that phase.
			wantOneTimeout(t, r, c, url, 2*time.Second, "the request took longer than 2s, in its "+h.phase)
		})
	}
}

// oneSlot is a configuration with a single slot, and with deadlines that no test lives to see.
func oneSlot(r *rig) Config {
	c := r.patientOnce()
	c.MaxInFlight = 1
	c.DeliveryTimeout, c.Lease = 10*testPatience, 10*testPatience+LeaseMargin
	c.LookupTimeout, c.ConnectTimeout, c.TLSTimeout = 9*testPatience, 9*testPatience, 9*testPatience
	return c
}

func wantOneTimeout(t *testing.T, r *rig, c Config, url string, own time.Duration, text string) {
	t.Helper()
	slow := r.write(outbox.Message{Outcome: testdb.Outcome("slow", url), URL: url, Options: outbox.Options{Timeout: own}})
	r.run(c)
	r.awaitState(slow, outbox.StateRetrying)
	healthy := newReceiver(t, nil)
	r.await("a healthy one is delivered through the only slot", func() bool {
		if r.count(`SELECT count(*) FROM outbox.status WHERE run_id = 'healthy' AND state IN ('pending', 'delivering')`) == 0 {
			r.writeTo(healthy.URL, "healthy") // a loaded machine may be too slow for the short deadline
		}
		return len(healthy.requests()) > 0
	})
	d := r.state(slow)
	if len(d.AttemptList) != 1 || *d.LastClass != classTimeout || !strings.Contains(*d.LastError, text) {
		t.Errorf("%d attempts, %s: %q; want one timeout that says %q", len(d.AttemptList), *d.LastClass, *d.LastError, text)
	}
	if strings.Contains(*d.LastError, url) {
		t.Errorf("the error quotes the URL, which may hold a secret: %s", *d.LastError)
	}
}

// TestAnAddressThatSwallowsLeavesTimeForTheNext: each of a name's addresses gets a part of the time to connect.
func TestAnAddressThatSwallowsLeavesTimeForTheNext(t *testing.T) {
	t.Parallel()
	listeners := listenOn(t, "127.0.0.3", "127.0.0.2")
	swallow(t, listeners[0])
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listeners[1]) }()
	t.Cleanup(func() { _ = s.Close(); <-served })

	c := direct("127.0.0.2", "127.0.0.3")
	c.ConnectTimeout = 2 * time.Second
	c.resolver = newNameserver(t, always("127.0.0.3", "127.0.0.2")).resolver()
	port := listeners[1].Addr().(*net.TCPAddr).AddrPort().Port()
	if a := deliverOnce(t, c, messageTo(httpTo("receiver.test", port))); a.class != classDelivered {
		t.Errorf("%s: %s", a.class, a.err)
	}
}

// TestEveryAddressRefusedIsAConnectsFault, the first one's error being the one that is kept.
func TestEveryAddressRefusedIsAConnectsFault(t *testing.T) {
	t.Parallel()
	l := listenOn(t, "127.0.0.2", "127.0.0.3")
	port := l[0].Addr().(*net.TCPAddr).AddrPort().Port()
	for _, l := range l {
		_ = l.Close()
	}
	c := direct("127.0.0.2", "127.0.0.3")
	c.resolver = newNameserver(t, always("127.0.0.2", "127.0.0.3")).resolver()
	a := deliverOnce(t, c, messageTo(httpTo("receiver.test", port)))
	if a.class != classConnect || !strings.Contains(a.err, "connection refused") || !strings.Contains(a.err, "127.0.0.2") {
		t.Errorf("%s: %s", a.class, a.err)
	}
}

// TestNoConnectIsLeftBehind: the transport lets a dial go on after its request, for others to use. Of many short requests
// to an address that swallows, as many sockets would stay.
func TestNoConnectIsLeftBehind(t *testing.T) {
	t.Parallel()
	l := listenOn(t, "127.0.0.4")[0]
	swallow(t, l)
	c := direct("127.0.0.4")
	c.ConnectTimeout = time.Hour
	c.DeliveryTimeout = 20 * time.Millisecond
	d, err := newDeliverer(c.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	for range 10 {
		if a := d.deliver(t.Context(), messageTo("http://"+addr.String()+"/")); a.class != classTimeout {
			t.Errorf("%s: %s", a.class, a.err)
		}
	}
	for deadline := time.Now().Add(testPatience); connecting(t, addr) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are still connecting", connecting(t, addr))
		}
	}
}

// connecting counts this host's sockets that wait for an address to answer, as Linux lists them.
func connecting(t *testing.T, to netip.AddrPort) (n int) {
	t.Helper()
	list, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	ip := to.Addr().As4()
	const synSent = "02"
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X %s", ip[3], ip[2], ip[1], ip[0], to.Port(), synSent)
	return strings.Count(string(list), want)
}
