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

// frame is an HTTP/2 frame without flags.
func frame(kind byte, stream uint32, payload ...byte) []byte {
	f := []byte{0, 0, byte(len(payload)), kind, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(f[5:], stream)
	return append(f, payload...)
}

func goAway(lastStream uint32) []byte {
	return frame(frameGoAway, 0, append(binary.BigEndian.AppendUint32(nil, lastStream), 0, 0, 0, 0)...)
}

// bareHTTP2 talks HTTP/2 by hand. It calls request with each request's stream until that returns false.
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

// newTLSSocket is a socket that talks TLS and offers HTTP/2.
func newTLSSocket(t testing.TB, ca *authority, handle func(net.Conn)) *socket {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, NextProtos: []string{"h2"}}
	s := newSocket(t, func(conn net.Conn) { handle(tls.Server(conn, config)) })
	s.URL = s.overTLS()
	return s
}

// An endpoint that turns away each connection got 12 305 requests in one attempt.
func TestAnAttemptAtAnEndpointThatTurnsEachConnectionAwayEnds(t *testing.T) {
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
				t.Errorf("%s: %s", what, describe(a))
			}
			if n := to.conns.Load(); n > connectionsMax {
				t.Errorf("%s: %d connections in one attempt", what, n)
			}
		})
	}
}
