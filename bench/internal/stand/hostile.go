package stand

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// hostile are the behaviours of the hostile endpoints: what one does with a connection once it has read a request's head.
var hostile = []func(net.Conn){
	func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },     // never answers
	func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, // resets the connection
	func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n") },
	func(c net.Conn) { // headers without an end
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		repeat(c, "X-Padding: "+strings.Repeat("x", 4096)+"\r\n", 0)
	},
	func(c net.Conn) { // a body without an end
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		repeat(c, "1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 0)
	},
	func(c net.Conn) { repeat(c, "HTTP/1.1 103 Early Hints\r\n\r\n", 0) },
	func(c net.Conn) { // an answer that comes a header line at a time
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		repeat(c, "X-Drip: x\r\n", 100*time.Millisecond)
	},
	func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut off") },
	func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
	},
	func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
	},
}

// repeat writes a text again and again until the other side closes the connection.
func repeat(c net.Conn, text string, every time.Duration) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		time.Sleep(every) // the drip is paced
	}
}

// hostileMax bounds what one connection can take of the receiver.
const hostileMax = time.Minute

// OpenHostile replies with the URLs of n hostile endpoints, each a port of its own on loopback. Messages to them do not count as
// arrived.
func (b *Inbox) OpenHostile(n int, urls *[]string) error {
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		b.hostile = append(b.hostile, l)
		go serveHostile(l, hostile[i%len(hostile)])
		*urls = append(*urls, fmt.Sprintf("http://%s/hook", l.Addr()))
	}
	return nil
}

// serveHostile serves until the listener is closed.
func serveHostile(l net.Listener, way func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(hostileMax))
			if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				way(c)
			}
		}()
	}
}

// OpenHostile returns the URLs of n hostile endpoints.
func (r *Receiver) OpenHostile(n int) (urls []string, err error) {
	err = r.call("Inbox.OpenHostile", n, &urls)
	return urls, err
}
