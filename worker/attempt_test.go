package worker

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAnAttemptIsOneRequest: net/http sends a request again by itself, over another connection, if a header of it says
// that this does no harm. To us each request is an attempt.
func TestAnAttemptIsOneRequest(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"X-Tenant", "Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var requests atomic.Int64
			to := newSocket(t, func(conn net.Conn) { // answers the first request of each connection, and drops it at the second
				read := bufio.NewReader(conn)
				for range 2 {
					req, err := http.ReadRequest(read)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if requests.Add(1) != 2 {
						_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
						continue
					}
					return
				}
			})
			r.run(r.once())
			r.awaitState(r.writeTo(to.URL, "run-1"), outbox.StateDelivered)
			id := r.end(outbox.RunOutcome{RunID: "run-2", Status: outbox.Succeeded, Headers: map[string]string{"callback_url": to.URL, name: "1"}})
			r.awaitAttempts()
			if d, n := r.state(id), requests.Load(); n != 2 || d.State != outbox.StateRetrying || *d.LastClass != classReset {
				t.Errorf("%d requests for two attempts; the message is %s", n, d.State)
			}
		})
	}
}
