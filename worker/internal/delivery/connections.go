package delivery

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
)

// connectionsMax is how many connections one attempt may use: the next one ends it. The transport sends a request again by
// itself when the other side says that it was not processed (GOAWAY, REFUSED_STREAM), and does so without a bound.
const connectionsMax = 2

// errTooManyConnections ends an attempt whose endpoint rejects each of its connections.
var errTooManyConnections = errors.New("too many connections: the endpoint turned each of them away")

// dialed counts a dial for the request, and refuses one that exceeds the limit. It does nothing on a nil trip.
func (t *trip) dialed() error {
	if t != nil && t.dials.Add(1) > connectionsMax {
		return errTooManyConnections
	}
	return nil
}

// gotConn is called for each connection that the request is given. An idle HTTP/1.1 connection does not count: the transport
// tries another one only when nothing was written to it, and there are no more of them than the pool keeps.
func (t *trip) gotConn(info httptrace.GotConnInfo) {
	t.at.Store(int32(phaseAnswer))
	t.reused = info.Reused
	t.metrics.gotConn(info)
	t.conn = ownConn(info)
	t.use = t.conn.begin()
	if info.Reused && !t.conn.isHTTP2() {
		return
	}
	if t.given++; t.given > connectionsMax {
		t.end(errTooManyConnections)
	}
}

// roundTrip sends the request. Where it fails on a connection that had been used before, and before any byte of an
// answer, the receiver has probably closed an idle connection, which it may do at any time. Then the request is sent once
// more, over a new connection.
func (s *Sender) roundTrip(t *trip, req *http.Request) (*http.Response, error) {
	resp, err := s.transport.RoundTrip(req)
	if err == nil || !t.stale(err) {
		return resp, err
	}
	again := req.Clone(t.traced())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	t.given = connectionsMax - 1 // one more
	return s.fresh.RoundTrip(again)
}

// stale reports whether an attempt failed because its connection was used before and had ended in the meantime.
func (t *trip) stale(err error) bool {
	if !t.reused || t.answered.Load() || t.Err() != nil || isTimeout(err) {
		return false
	}
	var (
		at      phaseError
		proxy   proxyError
		blocked blockedError
		stream  streamError
	)
	switch {
	case errors.As(err, &at), errors.As(err, &proxy), errors.As(err, &blocked), errors.Is(err, errTooManyConnections), errors.Is(err, errSentTooMuch):
		return false // the fault is in a dial that the transport made, or in what was sent
	case errors.As(err, &stream):
		return false // an HTTP/2 connection that is alive: the receiver aborted this request
	}
	return true
}

// streamError is a type that the HTTP/2 transport's own error for an aborted request can be converted to. Its fields must not change.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "HTTP/2 stream error" }

// ownConn returns the connection below TLS, or nil.
func ownConn(info httptrace.GotConnInfo) *conn {
	if secured, ok := info.Conn.(*tls.Conn); ok {
		c, _ := secured.NetConn().(*conn)
		return c
	}
	c, _ := info.Conn.(*conn)
	return c
}
