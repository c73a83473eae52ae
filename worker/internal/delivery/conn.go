package delivery

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a connection to an endpoint, below TLS. It does three things that http.Transport does not.
//
// A write that fails because the other side has closed is not an error yet: the receiver may have answered before it
// closed, for example when it refuses a large body. The read that follows returns that answer, or else the error.
//
// It lets the endpoint send a bounded number of bytes for each request, and then fails: HTTP/2 has frames without end that are not
// part of an answer, and reading them would keep a processor busy.
//
// It closes when it has been idle for the time that the receiver announced (Keep-Alive: timeout=N), less a second.
type conn struct {
	net.Conn
	http2 bool         // set once, before the connection is used
	deaf  atomic.Bool  // a write has failed, and later ones are dropped
	read  atomic.Int64 // bytes that were read
	limit atomic.Int64 // of read: connBytesMax more for each request

	mu    sync.Mutex
	uses  uint64      // requests that have begun
	idle  *time.Timer // closes the connection; nil until an answer has announced a time
	after uint64      // the use that idle was set after
}

// keepAliveMargin is the part of the announced time that is left for the next request to arrive.
const keepAliveMargin = time.Second

// connBytesMax is what an endpoint may send for one request: headers and body, twice each.
const connBytesMax = 2 * (responseHeaderBytes + responseBytesRead)

var errSentTooMuch = errors.New("the endpoint sends without an end")

func newConn(c net.Conn) *conn {
	own := &conn{Conn: c}
	own.limit.Store(connBytesMax) // for the handshake
	return own
}

func (c *conn) Read(p []byte) (int, error) {
	if c.read.Load() >= c.limit.Load() {
		return 0, errSentTooMuch
	}
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if c.deaf.Load() {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		c.deaf.Store(true)
		return len(p), nil
	}
	return n, err
}

// Close closes the connection.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.idle != nil {
		c.idle.Stop()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) isHTTP2() bool { return c != nil && c.http2 }

// begin is called when a request begins, and returns which use of the connection that is. It does nothing on a nil conn.
func (c *conn) begin() (use uint64) {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	c.limit.Add(connBytesMax)
	if c.idle != nil {
		c.idle.Stop()
	}
	return c.uses
}

// answered is called when the answer of a use has been read. The next request may have begun by then. HTTP/2 has no
// Keep-Alive (RFC 9113, section 8.2.2).
func (c *conn) answered(use uint64, h http.Header) {
	wait, ok := keepAlive(h)
	if !ok || c == nil || c.http2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses != use {
		return
	}
	c.after = use
	if c.idle == nil {
		c.idle = time.AfterFunc(wait, c.expire)
		return
	}
	c.idle.Reset(wait)
}

// expire closes the connection unless another request has begun in the meantime.
func (c *conn) expire() {
	c.mu.Lock()
	expired := c.uses == c.after
	c.mu.Unlock()
	if expired {
		_ = c.Conn.Close()
	}
}

// keepAlive returns how long the receiver lets a connection idle, less the margin. ok is false when it does
// not say, or lets it idle for longer than we do.
func keepAlive(h http.Header) (wait time.Duration, ok bool) {
	for _, line := range h["Keep-Alive"] {
		for parameter := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "timeout") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(value, `" `), 10, 16)
			wait = max(time.Duration(seconds)*time.Second-keepAliveMargin, 0)
			return wait, err == nil && wait < idleConnTimeout
		}
	}
	return 0, false
}
