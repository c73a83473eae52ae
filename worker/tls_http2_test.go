package worker

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// newHTTP2Receiver offers HTTP/2, and keeps the protocol of each request.
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

func TestHTTP2IsSpokenWhereItIsOffered(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to, protocols := newHTTP2Receiver(t, ca)
	to.answer = func(w http.ResponseWriter, _ request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}
	c := direct("127.0.0.1")
	c.CAFile = ca.file(t)
	m := messageTo(to.URL + "/hook")
	if a := deliverOnce(t, c, m); a.statusCode != http.StatusTeapot || a.response != "short and stout" {
		t.Errorf("%s %d: %s %q", a.class, a.statusCode, a.err, a.response)
	}
	if got := protocols(); len(got) != 1 || got[0] != "HTTP/2.0" {
		t.Errorf("it got %q", got)
	}
	if got := to.requests()[0]; got.id != m.id.String() || got.body != string(m.body) || got.path != "/hook" {
		t.Errorf("it got %+v", got)
	}
}

// TestAConnectionWhoseOtherEndIsGoneIsGivenUp: over HTTP/2 one connection carries all requests, and a timeout of one of
// them says nothing to the next. Without pings they would all run into it until the kernel gives up, after a quarter of
// an hour.
func TestAConnectionWhoseOtherEndIsGoneIsGivenUp(t *testing.T) {
	t.Parallel()
	r, ca := newRig(t), newAuthority(t)
	to, protocols := newHTTP2Receiver(t, ca)
	wire := newWire(t, strings.TrimPrefix(to.URL, "https://"))
	url := "https://" + wire.listener.Addr().String() + "/"
	c := r.config()
	c.CAFile, c.DeliveryTimeout = ca.file(t), 300*time.Millisecond
	c.RetrySchedule = make([]time.Duration, 30)
	for i := range c.RetrySchedule {
		c.RetrySchedule[i] = 20 * time.Millisecond
	}
	r.run(c)
	r.awaitState(r.writeTo(url, "run-1"), outbox.StateDelivered)
	wire.cut()
	d := r.awaitState(r.writeTo(url, "run-2"), outbox.StateDelivered)
	for _, a := range d.AttemptList[:len(d.AttemptList)-1] {
		if a.Class != classTimeout && a.Class != classReset && a.Class != classProtocol {
			t.Errorf("attempt %d: %s: %v", a.Attempt, a.Class, a.Error)
		}
	}
	if n := len(d.AttemptList); n < 2 || n > 20 {
		t.Errorf("%d attempts; want one that shows the cut, and not many more", n)
	}
	for _, protocol := range protocols() {
		if protocol != "HTTP/2.0" {
			t.Errorf("this was of HTTP/2, and it got %s", protocol)
		}
	}
}

// wire passes bytes to a server, until it is cut: then those of its connections go nowhere, without a word to either
// end. Later connections are whole.
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
	go func() { // a read must not outlive the test
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
