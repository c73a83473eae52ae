package delivery

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

// The frames that these tests need (RFC 9113, section 6), and the preface of a client (section 3.4).
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	frameGoAway   = 7

	clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// frame makes an HTTP/2 frame without flags.
func frame(kind byte, stream uint32, payload ...byte) []byte {
	f := []byte{0, 0, byte(len(payload)), kind, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(f[5:], stream)
	return append(f, payload...)
}

func goAway(lastStream uint32) []byte {
	return frame(frameGoAway, 0, append(binary.BigEndian.AppendUint32(nil, lastStream), 0, 0, 0, 0)...)
}

// bareHTTP2 speaks HTTP/2 without a library. It calls request with the stream of each request until request returns false.
func bareHTTP2(request func(conn net.Conn, stream uint32) bool) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(clientPreface))); err != nil {
			return
		}
		_, _ = conn.Write(frame(frameSettings, 0))
		for {
			var head [9]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
			if _, err := io.CopyN(io.Discard, conn, length); err != nil {
				return
			}
			if head[3] == frameHeaders && !request(conn, binary.BigEndian.Uint32(head[5:])) {
				return
			}
		}
	}
}

// newTLSSocket makes a socket that speaks TLS and offers HTTP/2.
func newTLSSocket(t testing.TB, ca *authority, handle func(net.Conn)) *socket {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, NextProtos: []string{"h2"}}
	s := newSocket(t, func(conn net.Conn) { handle(tls.Server(conn, config)) })
	s.URL = s.overTLS()
	return s
}

// Before the bound, an endpoint that rejects each connection got 12 305 requests in one attempt.
func TestAnAttemptAtAnEndpointThatRejectsEachConnectionEnds(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	reset := func(code byte) func(net.Conn) {
		return bareHTTP2(func(conn net.Conn, stream uint32) bool {
			_, err := conn.Write(frame(frameReset, stream, 0, 0, 0, code))
			return err == nil
		})
	}
	for what, handle := range map[string]func(net.Conn){
		"GOAWAY instead of an answer": bareHTTP2(func(conn net.Conn, _ uint32) bool {
			_, err := conn.Write(goAway(0))
			return err == nil
		}),
		"GOAWAY before the request": func(conn net.Conn) {
			_, _ = conn.Write(frame(frameSettings, 0))
			_, _ = conn.Write(goAway(0))
			hang(conn)
		},
		"REFUSED_STREAM": reset(7),
		"PROTOCOL_ERROR": reset(1),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			to := newTLSSocket(t, ca, handle)
			a := s.Send(t.Context(), messageTo(to.URL))
			if a.Class != ClassProtocol || !strings.Contains(a.Err, "too many connections") {
				t.Errorf("%s: %s, want class %s because of too many connections", what, describe(a), ClassProtocol)
			}
			if n := to.conns.Load(); n > connectionsMax {
				t.Errorf("%s: %d connections in one attempt, want %d at most", what, n, connectionsMax)
			}
		})
	}
}

// An endpoint may send about as many bytes as the worker reads of an answer. Without that bound, the windows of the transport
// are 4 MiB for each request and 1 GiB for each connection.
func TestAnHTTP2EndpointMaySendNoMoreThanIsRead(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	windows := make(chan [2]uint32, 1)
	to := newTLSSocket(t, ca, func(conn net.Conn) {
		var head [len(clientPreface) + 9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		settings := make([]byte, head[len(clientPreface)+2]) // their length fits in one byte
		update := make([]byte, 9+4)
		if _, err := io.ReadFull(conn, settings); err != nil {
			return
		}
		if _, err := io.ReadFull(conn, update); err != nil {
			return
		}
		var stream uint32 = 65535 // the default, until a setting changes it (RFC 9113, section 6.9.2)
		for ; len(settings) >= 6; settings = settings[6:] {
			if binary.BigEndian.Uint16(settings) == 4 { // SETTINGS_INITIAL_WINDOW_SIZE
				stream = binary.BigEndian.Uint32(settings[2:])
			}
		}
		windows <- [2]uint32{stream, 65535 + binary.BigEndian.Uint32(update[9:])}
	})
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	_ = sendOnce(t, c, messageTo(to.URL)) // the socket closes
	if got := <-windows; got[0] > responseBytesRead || got[1] > 8*responseBytesRead {
		t.Errorf("an endpoint may send %d bytes for a request and %d over a connection, want %d and %d at most", got[0], got[1], responseBytesRead, 8*responseBytesRead)
	}
}

// Before the bound, pings, settings and answers without an end kept the worker's processors busy until the timeout of the
// attempt.
func TestAnEndpointThatSendsWithoutAnEndEndsTheAttempt(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	for what, flood := range map[string][]byte{
		"pings": frame(6, 0, 1, 2, 3, 4, 5, 6, 7, 8), "settings": frame(frameSettings, 0, 0, 1, 0, 16, 0, 0), "an unknown kind": frame(99, 0, make([]byte, 200)...),
	} {
		to := newTLSSocket(t, ca, bareHTTP2(func(conn net.Conn, _ uint32) bool {
			repeat(conn, string(flood), nil)
			return false
		}))
		a := s.Send(t.Context(), messageTo(to.URL))
		if a.Class != ClassProtocol && a.Class != ClassReset || a.StatusCode != 0 || to.conns.Load() > connectionsMax {
			t.Errorf("%s: %s over %d connections, want class %s or %s over %d at most", what, describe(a), to.conns.Load(), ClassProtocol, ClassReset, connectionsMax)
		}
	}
}
