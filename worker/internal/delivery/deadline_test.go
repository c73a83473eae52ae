package delivery

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hanging is a receiver that hangs in one phase of a request.
type hanging struct {
	phase string
	url   func(t *testing.T, c *Config) string // starts the receiver, and changes c to reach it
	bound func(c *Config) *time.Duration       // the timeout of this phase; nil if it has none
	own   string                               // the error if this timeout ends the attempt
}

const shortWait = 200 * time.Millisecond

func hangingPhases() []hanging {
	return []hanging{
		{"lookup", func(t *testing.T, c *Config) string {
			c.Resolver = newNameserver(t, nil).resolver()
			return "http://receiver.test/"
		}, func(c *Config) *time.Duration { return &c.LookupTimeout }, "lookup took longer than 200ms"},
		{"connect", func(t *testing.T, _ *Config) string {
			l := listenOn(t, "127.0.0.3")[0]
			dropPackets(t, l)
			return "http://" + l.Addr().String() + "/"
		}, func(c *Config) *time.Duration { return &c.ConnectTimeout }, "connect took longer than 200ms"},
		{"TLS handshake", func(t *testing.T, _ *Config) string {
			return newSocket(t, hang).overTLS()
		}, func(c *Config) *time.Duration { return &c.TLSTimeout }, "TLS handshake took longer than 200ms"},
		{"wait for an answer", func(t *testing.T, _ *Config) string {
			return newSocket(t, hang).URL
		}, func(c *Config) *time.Duration { return &c.HeaderTimeout }, "awaiting response headers"},
		{"wait for an answer", func(t *testing.T, _ *Config) string { // it sends its headers byte by byte, and never ends them
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

// drip writes first at once, and then drop again and again, until the other side closes the connection.
func drip(conn net.Conn, first, drop string) {
	_, err := io.WriteString(conn, first)
	for ; err == nil; _, err = io.WriteString(conn, drop) {
		time.Sleep(10 * time.Millisecond) // a slow sender
	}
}

// Each phase has its own timeout. The error names the phase, and the Sender can use the endpoint's only connection again.
func TestEachPhaseHasATimeout(t *testing.T) {
	t.Parallel()
	for i, h := range hangingPhases() {
		if h.bound == nil { // only the whole request's timeout ends it
			continue
		}
		t.Run(fmt.Sprint(i, " ", h.phase), func(t *testing.T) {
			t.Parallel()
			c := oneConnection()
			url := h.url(t, &c)
			*h.bound(&c) = shortWait
			s := newSender(t, c)
			for range 2 { // the second attempt would wait for a connection if the first had kept the only one
				wantTimeout(t, s.Send(t.Context(), messageTo(url)), url, h.own)
			}
		})
	}
}

// The whole request's timeout ends every phase, and the error names the phase. Here it is the timeout of the message, which
// is shorter than the Sender's.
func TestTheWholeTimeoutEndsEveryPhase(t *testing.T) {
	t.Parallel()
	for i, h := range hangingPhases() {
		t.Run(fmt.Sprint(i, " ", h.phase), func(t *testing.T) {
			t.Parallel()
			c := oneConnection()
			url := h.url(t, &c)
			s := newSender(t, c)
			// Long enough for a loaded machine to reach that phase.
			m := messageTo(url).with(t, outbox.Options{Timeout: 2 * time.Second})
			wantTimeout(t, s.Send(t.Context(), m), url, "the request took longer than 2s, in its "+h.phase)
			wantDelivered(t, "a healthy receiver afterwards", s.Send(t.Context(), messageTo(newReceiver(t, nil).URL)))
		})
	}
}

// If an attempt gets no connection because all are in use, its error says so.
func TestAnAttemptWithoutAConnectionTimesOutInTheQueue(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	to := newSocket(t, func(conn net.Conn) {
		readRequest(conn)
		close(arrived)
		hang(conn)
	})
	s := newSender(t, oneConnection())
	ctx, cancel := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() { s.Send(ctx, messageTo(to.URL)) })
	<-arrived
	a := s.Send(t.Context(), messageTo(to.URL).with(t, outbox.Options{Timeout: shortWait}))
	wantTimeout(t, a, to.URL, "the request took longer than 200ms, in its wait for a connection")
	cancel()
	first.Wait()
}

// A message's own timeout is used when it is shorter than the Sender's.
func TestAMessagesOwnTimeoutIsNeverLongerThanTheSenders(t *testing.T) {
	t.Parallel()
	to := newSocket(t, hang)
	c := allowing("127.0.0.1")
	c.Timeout = shortWait
	s := newSender(t, c)
	for own, want := range map[time.Duration]string{50 * time.Millisecond: "50ms", time.Hour: "200ms", 0: "200ms"} {
		a := s.Send(t.Context(), messageTo(to.URL).with(t, outbox.Options{Timeout: own}))
		wantTimeout(t, a, to.URL, "the request took longer than "+want)
	}
}

// Send returns when the caller's context ends. The answer is neither a delivery nor a status, so the caller does not record
// it.
func TestSendReturnsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	for i, h := range hangingPhases() {
		t.Run(fmt.Sprint(i, " ", h.phase), func(t *testing.T) {
			t.Parallel()
			c := oneConnection()
			url := h.url(t, &c)
			s := newSender(t, c)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer time.AfterFunc(shortWait, cancel).Stop()
			a := s.Send(ctx, messageTo(url))
			if ctx.Err() == nil || a.Class == ClassDelivered || a.Class == ClassStatus {
				t.Errorf("%s, want that the context has ended, and neither a delivery nor a status", describe(a))
			}
		})
	}
}

// oneConnection returns a configuration with one connection for each endpoint, and with timeouts that no test reaches.
func oneConnection() Config {
	c := allowing("127.0.0.1", "127.0.0.3")
	c.MaxInFlight, c.EndpointMaxInFlight = 1, 1
	c.Timeout = 10 * testPatience
	c.LookupTimeout, c.ConnectTimeout, c.TLSTimeout, c.HeaderTimeout = 9*testPatience, 9*testPatience, 9*testPatience, 9*testPatience
	return c
}

func wantTimeout(t *testing.T, a Answer, url, says string) {
	t.Helper()
	if a.Class != ClassTimeout || !strings.Contains(a.Err, says) || a.WaitsFor != "" {
		t.Errorf("%s; want a timeout that says %q", describe(a), says)
	}
	if strings.Contains(a.Err, url) {
		t.Errorf("the error quotes the URL, which may contain a secret: %s", a.Err)
	}
}

// Each address of a name gets one part of the time to connect.
func TestAnAddressThatDropsPacketsLeavesTimeForTheNext(t *testing.T) {
	t.Parallel()
	listeners := listenOn(t, "127.0.0.3", "127.0.0.2")
	dropPackets(t, listeners[0])
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listeners[1]) }()
	t.Cleanup(func() { _ = s.Close(); <-served })

	c := allowing("127.0.0.2", "127.0.0.3")
	c.ConnectTimeout = 2 * time.Second
	c.Resolver = newNameserver(t, always("127.0.0.3", "127.0.0.2")).resolver()
	port := listeners[1].Addr().(*net.TCPAddr).AddrPort().Port()
	if a := sendOnce(t, c, messageTo(httpTo("receiver.test", port))); a.Class != ClassDelivered {
		t.Errorf("the attempt ended with %s: %s, want a delivery", a.Class, a.Err)
	}
}

// When every address refuses the connection, the error of the first one is kept.
func TestAnAttemptFailsInItsConnectWhenEveryAddressRefuses(t *testing.T) {
	t.Parallel()
	l := listenOn(t, "127.0.0.2", "127.0.0.3")
	port := l[0].Addr().(*net.TCPAddr).AddrPort().Port()
	for _, l := range l {
		_ = l.Close()
	}
	c := allowing("127.0.0.2", "127.0.0.3")
	c.Resolver = newNameserver(t, always("127.0.0.2", "127.0.0.3")).resolver()
	a := sendOnce(t, c, messageTo(httpTo("receiver.test", port)))
	if a.Class != ClassConnect || !strings.Contains(a.Err, "connection refused") || !strings.Contains(a.Err, "127.0.0.2") {
		t.Errorf("the attempt ended with %s: %s, want class %s with the error of 127.0.0.2", a.Class, a.Err, ClassConnect)
	}
}

// By default the transport continues a dial after its request has ended, so that a later request can use the connection.
// With an address that drops packets, many short requests would leave as many sockets.
func TestADialEndsWithItsAttempt(t *testing.T) {
	t.Parallel()
	l := listenOn(t, "127.0.0.4")[0]
	dropPackets(t, l)
	c := allowing("127.0.0.4")
	c.ConnectTimeout = time.Hour
	c.Timeout = 20 * time.Millisecond
	s := newSender(t, c)
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	for range 10 {
		if a := s.Send(t.Context(), messageTo("http://"+addr.String()+"/")); a.Class != ClassTimeout {
			t.Errorf("the attempt ended with %s: %s, want class %s", a.Class, a.Err, ClassTimeout)
		}
	}
	for deadline := time.Now().Add(testPatience); connecting(t, addr) > 0; time.Sleep(10 * time.Millisecond) { // no event tells when the kernel has closed a socket
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are still connecting, want none", connecting(t, addr))
		}
	}
}

// connecting counts this host's sockets that are connecting to an address, as Linux lists them.
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
