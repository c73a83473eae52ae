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

// socket is a receiver that no HTTP library would let us build: it works on the bare connection.
type socket struct {
	URL   string // http://127.0.0.1:port
	conns atomic.Int64
	close func() // it may be called before the test ends
}

// newSocket calls handle with each connection, and closes the connection when handle returns or the test ends.
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

// readRequest reads one request, with its body.
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

// hang does nothing until the other side closes the connection.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
