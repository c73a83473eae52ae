package worker

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// connect is the handler of a proxy: it opens the tunnel that a CONNECT request names.
func connect(w http.ResponseWriter, req *http.Request) {
	to, err := net.Dial("tcp", req.Host)
	if err != nil || req.Method != http.MethodConnect {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = to.Close() }()
	w.WriteHeader(http.StatusOK)
	from, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
	_, _ = io.Copy(from, to)
}

// TestAMessageWaitsForTheProxy: it is pending, no attempt is counted, and its row says what it waits for. It is sent once the
// proxy works. The log does not contain the proxy's password.
func TestAMessageWaitsForTheProxy(t *testing.T) {
	t.Parallel()
	r, to, lines := newRig(t), newReceiver(t, nil), &logLines{}
	address := newReceiver(t, nil)
	address.Close() // nobody listens there now
	c := r.config()
	c.ProxyURL = "http://worker:hunter2@" + strings.TrimPrefix(address.URL, "http://")
	c.Logger = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	id := r.writeTo(to.URL, "run-1")
	r.run(c)
	r.await("the message waits", func() bool { return r.state(id).WaitsFor != nil })
	d := r.state(id)
	if d.State != outbox.StatePending || d.Attempts != 0 || len(d.AttemptList) != 0 || !strings.Contains(*d.WaitsFor, "connection refused") {
		t.Errorf("the message is %s after %d attempts, and waits for %q; want it pending after none, because of a refused connection", d.State, d.Attempts, *d.WaitsFor)
	}
	l, err := net.Listen("tcp", strings.TrimPrefix(address.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: http.HandlerFunc(connect)}
	go func() { _ = proxy.Serve(l) }()
	t.Cleanup(func() { _ = proxy.Close() })
	r.exec(`UPDATE outbox.due SET due_at = now()`) // as if the wait were over by the database's clock
	if d := r.awaitState(id, outbox.StateDelivered); d.Attempts != 1 || len(d.AttemptList) != 1 || d.WaitsFor != nil {
		t.Errorf("the message is delivered after %d attempts, with %d in the list, and waits for %v; want 1, 1 and nothing", d.Attempts, len(d.AttemptList), d.WaitsFor)
	}
	if lines.count("waits_for") == 0 || lines.count("hunter2") > 0 {
		t.Errorf("the log names waits_for %d times and the password %d times; want some and none", lines.count("waits_for"), lines.count("hunter2"))
	}
}

func TestAProxysURLIsCheckedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	err := Config{ProxyURL: "ftp://worker:hunter2@proxy"}.Validate()
	if err == nil || !strings.HasPrefix(err.Error(), "ProxyURL: ") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v; want a fault of its scheme, without the password", err)
	}
}
