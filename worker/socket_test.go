package worker

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// socket is a receiver that HTTP libraries would not let us build: it gets the bare connection, closed for it at last.
type socket struct {
	URL   string // http://127.0.0.1:port
	conns atomic.Int64
	close func() // before the test ends, if need be
}

// newSocket serves each connection by handle, until the test ends.
func newSocket(t testing.TB, handle func(net.Conn)) *socket {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{URL: "http://" + listener.Addr().String()}
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		open    = map[net.Conn]bool{}
	)
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	s.close = sync.OnceFunc(func() {
		_ = listener.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	t.Cleanup(s.close)
	return s
}

// readRequest takes one request off a connection, with its body.
func readRequest(conn net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err == nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

// sayAndClose answers one request and closes.
func sayAndClose(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, answer)
	}
}

// hang does nothing until the other side gives up.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
