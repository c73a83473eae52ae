// Package receiver is the other side of the demo: an HTTP server on the loopback interface that keeps a record of its
// own of everything it accepts.
package receiver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/chance"
	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
)

// bodyBytesMax is what the receiver reads of a body; the service's results are far smaller.
const bodyBytesMax = 1 << 20

// Receiver accepts messages, refuses a share of them with 503, and records both.
type Receiver struct {
	seed    uint64
	refused float64
	server  *http.Server
	url     string

	mu       sync.Mutex
	arrivals []compare.Arrival
	messages map[string]bool // by webhook-id
	requests map[string]int  // by run id
	refusals int
	faults   []string
	hold     chan struct{} // nil, or closed when held answers may go
	held     int           // requests accepted, their answers held back
}

// Start listens on a free port of the loopback interface. A share of the requests is refused with 503, decided by seed.
func Start(seed uint64, refused float64) (*Receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("receiver: %w", err)
	}
	r := &Receiver{
		seed: seed, refused: refused, messages: map[string]bool{}, requests: map[string]int{},
		url: fmt.Sprintf("http://%s/callback", listener.Addr()),
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.fault(fmt.Sprintf("the receiver ended: %v", err))
		}
	}()
	return r, nil
}

// URL is where it listens.
func (r *Receiver) URL() string { return r.url }

// ServeHTTP accepts or refuses one request.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, bodyBytesMax))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	arrival := compare.Arrival{
		MessageID: request.Header.Get("webhook-id"),
		RunID:     request.Header.Get("Workflow-Run-Id"),
		Status:    request.Header.Get("Workflow-Run-Status"),
		Attempt:   request.Header.Get(compare.AttemptHeader),
		Body:      sha256.Sum256(body),
		At:        time.Now(),
	}
	if request.Method != http.MethodPost || arrival.MessageID == "" || arrival.RunID == "" {
		r.fault(fmt.Sprintf("%s %s is not a webhook: webhook-id %q, run id %q", request.Method, request.URL, arrival.MessageID, arrival.RunID))
		http.Error(w, "not a webhook", http.StatusBadRequest)
		return
	}
	accepted, hold := r.record(arrival)
	if !accepted {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	if hold != nil {
		select {
		case <-hold:
		case <-request.Context().Done(): // nobody waits for the answer any more
		}
	}
}

// record keeps the arrival, unless this request is one to be refused.
func (r *Receiver) record(a compare.Arrival) (accepted bool, hold <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[a.RunID]++
	if chance.Hits(r.seed, r.refused, "refuse", a.RunID, r.requests[a.RunID]) {
		r.refusals++
		return false, nil
	}
	r.arrivals = append(r.arrivals, a)
	r.messages[a.MessageID] = true
	if r.hold != nil {
		r.held++
	}
	return true, r.hold
}

// Hold accepts requests from now on without answering them, until release is called: their sender has no answer to
// record. Held says how many there are.
func (r *Receiver) Hold() (release func()) {
	hold := make(chan struct{})
	r.mu.Lock()
	r.hold, r.held = hold, 0
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		r.hold = nil
		r.mu.Unlock()
		close(hold)
	}
}

// Held is how many requests were accepted since the last Hold whose answers were held back.
func (r *Receiver) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// Delivered is how many messages, each counted once, were accepted so far.
func (r *Receiver) Delivered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.messages)
}

// Record is everything that the receiver knows.
type Record struct {
	Arrivals []compare.Arrival // every accepted request, in the order of arrival
	Refusals int               // requests answered with 503
	Faults   []string          // what should never come
}

// Record returns what came so far.
func (r *Receiver) Record() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Record{append([]compare.Arrival(nil), r.arrivals...), r.refusals, append([]string(nil), r.faults...)}
}

func (r *Receiver) fault(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, text)
}

// Stop ends the receiver, at once if ctx has ended.
func (r *Receiver) Stop(ctx context.Context) error {
	if err := r.server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("receiver: %w", err), r.server.Close())
	}
	return nil
}
