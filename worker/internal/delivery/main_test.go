package delivery

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

// testPatience is how long a test waits for something that must happen before it fails. No test checks that something is fast.
const testPatience = time.Minute

// allowing returns a configuration that allows the given addresses only. Its timeouts are so long that no healthy receiver is
// too slow, even on a loaded machine.
func allowing(hosts ...string) Config {
	c := Config{
		Timeout: testPatience, LookupTimeout: testPatience, ConnectTimeout: testPatience, TLSTimeout: testPatience, HeaderTimeout: testPatience,
		MaxInFlight: 256, EndpointMaxInFlight: 64, AllowHTTP: true, UserAgent: "Epilogue",
	}
	for _, host := range hosts {
		c.AllowedCIDRs = append(c.AllowedCIDRs, netip.PrefixFrom(netip.MustParseAddr(host), 32))
	}
	return c
}

// newSender returns a Sender that is closed when the test ends.
func newSender(t testing.TB, c Config) *Sender {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// sendOnce makes one attempt with a new Sender.
func sendOnce(t testing.TB, c Config, m Message) Answer {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Send(t.Context(), m)
}

// wantDelivered fails the test unless the attempt delivered its message.
func wantDelivered(t testing.TB, what string, a Answer) {
	t.Helper()
	if a.Class != ClassDelivered {
		t.Errorf("%s: %s, want a delivery", what, describe(a))
	}
}

// describe returns in one line how an attempt ended.
func describe(a Answer) string {
	return fmt.Sprintf("class %q, status %d, error %q, waits for %q", a.Class, a.StatusCode, a.Err, a.WaitsFor)
}

// messageTo returns a message like that of a claim.
func messageTo(url string) Message {
	return Message{ID: outbox.NewID(), RunID: "run-1", Status: outbox.Succeeded, Body: []byte(`{"ok":true}`), URL: url}
}

// with returns the message with options.
func (m Message) with(t testing.TB, o outbox.Options) Message {
	t.Helper()
	m.Options = encode(t, o)
	return m
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// httpTo returns the URL of a host and a port.
func httpTo(host string, port uint16) string { return fmt.Sprintf("http://%s:%d/", host, port) }

// request is a request that a receiver got.
type request struct {
	id, runID, status, body string
	method, host, path      string
	header                  http.Header
}

// receiver is a real HTTP server that keeps the requests it got.
type receiver struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r request) // nil: answer 200

	mu  sync.Mutex
	got []request
}

func newReceiver(t testing.TB, answer func(http.ResponseWriter, request)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	got := request{
		id: req.Header.Get("webhook-id"), runID: req.Header.Get("Workflow-Run-Id"),
		status: req.Header.Get("Workflow-Run-Status"), body: string(body),
		method: req.Method, host: req.Host, path: req.URL.Path, header: req.Header,
	}
	r.mu.Lock()
	r.got = append(r.got, got)
	r.mu.Unlock()
	if r.answer != nil {
		r.answer(w, got)
	}
}

func (r *receiver) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.got...)
}

// last is the last request that the receiver got.
func (r *receiver) last(t testing.TB) request {
	t.Helper()
	got := r.requests()
	if len(got) == 0 {
		t.Fatal("the receiver got no request")
	}
	return got[len(got)-1]
}
