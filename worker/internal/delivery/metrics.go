package delivery

import (
	"crypto/tls"
	"net/http/httptrace"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
)

// metrics are what this package counts; nothing when nil. Requests and connections are counted separately from attempts: one attempt
// should be one request, and a connection should carry many.
type metrics struct {
	fresh, reused    instruments.Counter // requests, by the connection that they went out on
	opened, failed   instruments.Counter // connections
	full, resumed    instruments.Counter // TLS handshakes
	handshakesFailed instruments.Counter
}

func newMetrics(m *instruments.Maker) *metrics {
	requests := m.Counter("outbox.requests", "{request}", "Requests that were given a connection: one per attempt that got so far.")
	connections := m.Counter("outbox.connections", "{connection}", "Connections to endpoints that were opened, or could not be opened.")
	handshakes := m.Counter("outbox.tls.handshakes", "{handshake}", "TLS handshakes with endpoints.")
	return &metrics{
		fresh: requests.With("connection", "new").FromZero(), reused: requests.With("connection", "reused").FromZero(),
		opened: connections.With("result", "opened").FromZero(), failed: connections.With("result", "failed").FromZero(),
		full: handshakes.With("result", "full").FromZero(), resumed: handshakes.With("result", "resumed").FromZero(), handshakesFailed: handshakes.With("result", "failed").FromZero(),
	}
}

func (m *metrics) gotConn(info httptrace.GotConnInfo) {
	switch {
	case m == nil:
	case info.Reused:
		m.reused.Add(1)
	default:
		m.fresh.Add(1)
	}
}

func (m *metrics) dialled(err error) {
	switch {
	case m == nil:
	case err == nil:
		m.opened.Add(1)
	default:
		m.failed.Add(1)
	}
}

func (m *metrics) shookHands(state tls.ConnectionState, err error) {
	switch {
	case m == nil:
	case err != nil:
		m.handshakesFailed.Add(1)
	case state.DidResume:
		m.resumed.Add(1)
	default:
		m.full.Add(1)
	}
}
