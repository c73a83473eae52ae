package delivery

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// newHTTP2Receiver offers HTTP/2. protocols returns the protocol of each request that it got.
func newHTTP2Receiver(t *testing.T, ca *authority) (to *receiver, protocols func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	to = newTLSReceiver(t, ca.issue(t, nil), func(s *httptest.Server) {
		s.EnableHTTP2 = true
		inner := s.Config.Handler
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			got = append(got, r.Proto)
			mu.Unlock()
			inner.ServeHTTP(w, r)
		})
	})
	return to, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), got...)
	}
}

func TestHTTP2IsUsedIfItIsOffered(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to, protocols := newHTTP2Receiver(t, ca)
	to.answer = func(w http.ResponseWriter, _ request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	m := messageTo(to.URL + "/hook")
	if a := sendOnce(t, c, m); a.StatusCode != http.StatusTeapot || a.Response != "short and stout" {
		t.Errorf("%s: %q, want 418 with its text", describe(a), a.Response)
	}
	if got := protocols(); len(got) != 1 || got[0] != "HTTP/2.0" {
		t.Errorf("the receiver got the protocols %q, want HTTP/2.0 once", got)
	}
	if got := to.requests()[0]; got.id != m.ID.String() || got.body != string(m.Body) || got.path != "/hook" {
		t.Errorf("the receiver got %+v, want the message at /hook", got)
	}
}

// net/http trims values by itself over HTTP/1.1 only.
func TestOuterWhiteSpaceIsTrimmedOverHTTP2AsWell(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to, _ := newHTTP2Receiver(t, ca)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	m := messageTo(to.URL).forwarding(t, map[string]string{"X-A": " a\t"})
	m.RunID = " run 1 "
	wantDelivered(t, "a message", sendOnce(t, c, m))
	if got := to.last(t); got.runID != "run 1" || got.header.Get("X-A") != "a" {
		t.Errorf("the receiver got the run %q and X-A %q, want \"run 1\" and \"a\"", got.runID, got.header.Get("X-A"))
	}
}

// The bound on the bytes that an endpoint may send holds for each request, because one connection carries many requests.
func TestTheBoundOnBytesHoldsForARequestAndNotForItsConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to, _ := newHTTP2Receiver(t, ca)
	plain := newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	const each = responseBytesRead - 1<<10
	for _, r := range []*receiver{to, plain} {
		r.answer = func(w http.ResponseWriter, _ request) { _, _ = io.WriteString(w, strings.Repeat("x", each)) }
		for n := 0; n*each <= 2*connBytesMax; n++ {
			wantDelivered(t, r.URL, s.Send(t.Context(), messageTo(r.URL)))
		}
	}
}

// Over HTTP/2 one connection carries all requests to an endpoint, and the timeout of one request does not close it. Without
// pings, every request on a connection whose other end has vanished would time out until the kernel gives up, after a
// quarter of an hour.
func TestAConnectionWhoseOtherEndHasVanishedIsClosed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to, protocols := newHTTP2Receiver(t, ca)
	wire := newWire(t, strings.TrimPrefix(to.URL, "https://"))
	url := "https://" + wire.listener.Addr().String() + "/"
	c := allowing("127.0.0.1")
	c.CAFile, c.Timeout = ca.file(t), time.Second
	s := newSender(t, c)
	attempts := func() (n int) { // counts the attempts until the message is delivered
		for n = 1; n < 30; n++ {
			a := s.Send(t.Context(), messageTo(url))
			if a.Class == ClassDelivered {
				break
			}
			if a.Class != ClassTimeout && a.Class != ClassReset && a.Class != ClassProtocol {
				t.Errorf("attempt %d: %s, want class %s, %s or %s", n, describe(a), ClassTimeout, ClassReset, ClassProtocol)
			}
		}
		return n
	}
	if n := attempts(); n == 30 {
		t.Fatal("nothing was delivered before the cut, want a delivery")
	}
	wire.cut()
	if n := attempts(); n < 2 || n > 20 {
		t.Errorf("%d attempts after the cut; want 2 to 20", n)
	}
	for _, protocol := range protocols() {
		if protocol != "HTTP/2.0" {
			t.Errorf("a request came over %s; this test is about HTTP/2", protocol)
		}
	}
}

// wire passes bytes to a server. After cut, the bytes of its present connections are lost, and neither end gets an error. Later
// connections work.
type wire struct {
	listener net.Listener
	mu       sync.Mutex
	broken   chan struct{} // closed by cut
	mended   chan struct{} // closed when the test ends
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	w := &wire{listener: listenOn(t, "127.0.0.1")[0], broken: make(chan struct{}), mended: make(chan struct{})}
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			near, err := w.listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			w.mu.Lock()
			broken := w.broken
			w.mu.Unlock()
			carrying.Go(func() { w.carry(near, far, broken) })
			carrying.Go(func() { w.carry(far, near, broken) })
		}
	})
	t.Cleanup(func() {
		_ = w.listener.Close()
		close(w.mended)
		carrying.Wait()
	})
	return w
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.broken)
	w.broken = make(chan struct{})
}

func (w *wire) carry(from, to net.Conn, broken <-chan struct{}) {
	defer func() { _ = to.Close() }()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // it ends a read that would outlive the test
		select {
		case <-w.mended:
			_ = from.Close()
		case <-stop:
		}
	}()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-broken:
			<-w.mended
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
