package webhook_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// rig is a receiver on a real server, and a sender.
type rig struct {
	url    string
	key    webhook.Key
	client *http.Client

	mu     sync.Mutex
	errors []error // the arguments of OnError
}

// newRig serves next behind the middleware. change may change the middleware's configuration.
func newRig(t *testing.T, next http.HandlerFunc, change func(*webhook.HandlerConfig)) *rig {
	t.Helper()
	rig := &rig{key: generate(t, webhook.HMAC), client: &http.Client{Transport: new(http.Transport)}}
	config := webhook.HandlerConfig{
		Verifier: webhook.Verifier{Keys: webhook.Keys{rig.key}},
		OnError: func(_ *http.Request, err error) {
			rig.mu.Lock()
			defer rig.mu.Unlock()
			rig.errors = append(rig.errors, err)
		},
	}
	if change != nil {
		change(&config)
	}
	handler, err := webhook.NewHandler(next, config)
	must(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // these tests panic on purpose
	server.Start()
	rig.url = server.URL
	t.Cleanup(func() {
		rig.client.CloseIdleConnections()
		server.Close()
	})
	return rig
}

func (r *rig) faults() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.errors...)
}

// request returns a valid delivery.
func (r *rig) request(t *testing.T, id string, body []byte) *http.Request {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, bytes.NewReader(body))
	must(t, err)
	for name, values := range signed(webhook.Keys{r.key}, id, time.Now(), body) {
		q.Header[name] = values
	}
	return q
}

// answerTo returns the status and body of the answer; 0 if there was none.
func (r *rig) answerTo(q *http.Request) (status int, text string) {
	resp, err := r.client.Do(q)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func (r *rig) deliver(t *testing.T, id string, body []byte) int {
	t.Helper()
	status, _ := r.answerTo(r.request(t, id, body))
	return status
}

func (r *rig) want(t *testing.T, id string, status int) {
	t.Helper()
	if got := r.deliver(t, id, nil); got != status {
		t.Errorf("%s: the answer is %d, want %d", id, got, status)
	}
}
