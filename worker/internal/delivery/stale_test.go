package delivery

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answering answers the given number of requests of a connection with 204 and the header. It reads one more request, and calls
// then.
func answering(requests int, header string, then func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		read := bufio.NewReader(conn)
		for n := 0; ; n++ {
			req, err := http.ReadRequest(read)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if n == requests {
				then(conn)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n"+header+"\r\n")
		}
	}
}

func closeIt(net.Conn) {}

func resetIt(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// Receivers close idle connections without a notice: Node after 5 s, and many load balancers. A request that was sent over such
// a connection is sent again, within the attempt.
func TestAConnectionThatTheReceiverHasClosedIsNotAFailure(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	http1 := func(handle func(net.Conn)) *socket {
		config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
		to := newSocket(t, func(conn net.Conn) { handle(tls.Server(conn, config)) })
		to.URL = to.overTLS()
		return to
	}
	for what, to := range map[string]*socket{
		"closed": newSocket(t, answering(1, "", closeIt)), "reset": newSocket(t, answering(1, "", resetIt)),
		"closed, TLS": http1(answering(1, "", closeIt)), "reset, TLS": http1(answering(1, "", resetIt)),
	} {
		for n := range 20 {
			a := s.Send(t.Context(), messageTo(to.URL))
			wantDelivered(t, fmt.Sprint(what, ", attempt ", n+1), a)
		}
	}
}

// A receiver that is silent on a used connection may only be slow, and an attempt has no time to find out which it is.
func TestARequestIsNotSentAgainAfterATimeoutOrThePartOfAnAnswer(t *testing.T) {
	t.Parallel()
	c := allowing("127.0.0.1")
	c.HeaderTimeout = 10 * shortWait // the first request must be faster than this, too
	s := newSender(t, c)
	for class, then := range map[string]func(net.Conn){
		ClassTimeout:  hang,
		ClassReset:    func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 ") },
		ClassProtocol: func(conn net.Conn) { _, _ = io.WriteString(conn, "what is this\r\n\r\n") },
	} {
		to := newSocket(t, answering(1, "", then))
		wantDelivered(t, "the first", s.Send(t.Context(), messageTo(to.URL)))
		if a := s.Send(t.Context(), messageTo(to.URL)); a.Class != class || to.conns.Load() != 1 {
			t.Errorf("%s over %d connections, want class %s over one", describe(a), to.conns.Load(), class)
		}
	}
}

// Over HTTP/2, too, a connection that has ended is replaced. One that is alive and aborts the request is not.
func TestAnHTTP2ConnectionThatEndedIsNotAFailure(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	answer := func(then func(net.Conn, uint32) bool) func(net.Conn) {
		n := 0 // counts the requests of one connection: each connection has its own n
		return bareHTTP2(func(conn net.Conn, stream uint32) bool {
			if n++; n > 1 {
				return then(conn, stream)
			}
			answer := frame(frameHeaders, stream, 0x89) // :status 204 (RFC 7541, appendix A)
			answer[4] = 5                               // END_STREAM, END_HEADERS
			_, err := conn.Write(answer)
			return err == nil
		})
	}
	ends := newTLSSocket(t, ca, func(conn net.Conn) {
		answer(func(conn net.Conn, _ uint32) bool { resetIt(conn); return false })(conn)
	})
	for n := range 10 {
		wantDelivered(t, fmt.Sprint("attempt ", n+1), s.Send(t.Context(), messageTo(ends.URL)))
	}
	aborts := newTLSSocket(t, ca, func(conn net.Conn) {
		answer(func(conn net.Conn, stream uint32) bool {
			_, err := conn.Write(frame(frameReset, stream, 0, 0, 0, 2)) // INTERNAL_ERROR
			return err == nil
		})(conn)
	})
	wantDelivered(t, "the first", s.Send(t.Context(), messageTo(aborts.URL)))
	if a := s.Send(t.Context(), messageTo(aborts.URL)); a.Class == ClassDelivered || aborts.conns.Load() != 1 {
		t.Errorf("%s over %d connections, want no delivery, over one", describe(a), aborts.conns.Load())
	}
}

// A receiver can say how long it keeps an idle connection. The Sender closes it one second before that.
func TestAnIdleConnectionIsClosedBeforeTheReceiverDoes(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 8)
	to := newSocket(t, func(conn net.Conn) {
		answering(2, "Keep-Alive: timeout=6, max=100\r\n", closeIt)(conn)
		ended <- struct{}{}
	})
	s := newSender(t, allowing("127.0.0.1"))
	for range 2 {
		wantDelivered(t, "a message", s.Send(t.Context(), messageTo(to.URL)))
	}
	if n := to.conns.Load(); n != 1 {
		t.Errorf("%d connections for two messages, want 1", n)
	}
	select {
	case <-ended:
	case <-time.After(testPatience):
		t.Error("the connection is still open, want it closed")
	}
}

func TestTheTimeoutOfTheKeepAliveHeaderIsRead(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"timeout=5": 4 * time.Second, "max=100, Timeout = 5": 4 * time.Second, "timeout=\"5\"": 4 * time.Second,
		"timeout=10": 9 * time.Second, "timeout=1": 0, "timeout=0": 0, "max=3": -1, "timeout": -1, "timeout=x": -1, "timeout=-1": -1, "": -1,
		"timeout=3600": -1, "timeout=99999999999999999999": -1,
	} {
		wait, ok := keepAlive(http.Header{"Keep-Alive": {value}})
		if ok != (want >= 0) || ok && wait != want {
			t.Errorf("%q: %v, %v; want %v", value, wait, ok, want)
		}
	}
}

// A receiver that refuses a large body answers before it has read the body, and closes the connection. The reset that follows
// must not lose the answer.
func TestAnAnswerFromBeforeTheEndOfTheBodyCounts(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	to := newSocket(t, func(conn net.Conn) {
		served.Add(1)
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
	})
	s := newSender(t, allowing("127.0.0.1"))
	m := messageTo(to.URL)
	m.Body = []byte(strings.Repeat("x", 900<<10))
	for n := range 50 {
		if a := s.Send(t.Context(), m); a.StatusCode != http.StatusRequestEntityTooLarge || a.Response != "big" {
			t.Fatalf("attempt %d: %s, want 413", n+1, describe(a))
		}
	}
	if n := served.Load(); n != 50 {
		t.Errorf("%d connections for 50 attempts, want 50", n)
	}
}
