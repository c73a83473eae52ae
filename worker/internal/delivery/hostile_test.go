package delivery

import (
	"bytes"
	"compress/gzip"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hostile is a receiver that breaks the protocol or hangs, and the class of an attempt at it.
type hostile struct {
	name  string
	url   string
	class string
}

// hostileTimeout is the timeout of messages whose receivers hang. The other messages have as long as they need.
const hostileTimeout = 300 * time.Millisecond

// Each attempt at a hostile receiver ends, with the right class, and leaves nothing that prevents other messages from being
// sent.
func TestAnAttemptAtAHostileReceiverEnds(t *testing.T) {
	t.Parallel()
	var endless atomic.Int64
	receivers := hostileReceivers(t, &endless)
	s := newSender(t, allowing("127.0.0.1"))
	answers := make([]Answer, len(receivers))
	var attempts sync.WaitGroup
	for i, h := range receivers {
		m := messageTo(h.url)
		if h.class == ClassTimeout {
			m = m.with(t, outbox.Options{Timeout: hostileTimeout})
		}
		attempts.Go(func() { answers[i] = s.Send(t.Context(), m) })
	}
	attempts.Wait()
	for i, h := range receivers {
		a := answers[i]
		if a.Class == "" || !strings.Contains(h.class, a.Class) || a.WaitsFor != "" {
			t.Errorf("%s: %s, want class %s", h.name, describe(a), h.class)
		}
		if len(a.Response) > 3*responseBytesKept || len(a.Err) > errorBytesMax {
			t.Errorf("%s: kept %d bytes of the answer and %d of the error, want %d and %d at most", h.name, len(a.Response), len(a.Err), 3*responseBytesKept, errorBytesMax)
		}
		if a.Duration <= 0 || a.StartedAt.IsZero() {
			t.Errorf("%s: started at %v, took %v, want both set", h.name, a.StartedAt, a.Duration)
		}
	}
	wantDelivered(t, "a healthy receiver", s.Send(t.Context(), messageTo(newReceiver(t, nil).URL)))
	// Send reads at most responseBytesRead. The receiver can also fill the kernel's buffers: tens of megabytes.
	if n := endless.Load(); n > 64<<20 {
		t.Errorf("the worker took %d MiB of the endless answer, want 64 at most", n>>20)
	}
}

func hostileReceivers(t *testing.T, endless *atomic.Int64) []hostile {
	const head = "HTTP/1.1 200 OK\r\n"
	at := func(handle func(net.Conn)) string { return newSocket(t, handle).URL }
	selfSigned := httptest.NewUnstartedServer(nil)
	selfSigned.Config.ErrorLog = log.New(io.Discard, "", 0)
	selfSigned.StartTLS()
	t.Cleanup(selfSigned.Close)
	return append(hangingReceivers(t), []hostile{
		// net/http reports a close before the first byte of the request as the close of an idle connection.
		{"closes at once", at(func(net.Conn) {}), ClassReset + " or " + ClassProtocol},
		{"closes after the request", at(sayAndClose("")), ClassReset},
		{"closes within a header", at(sayAndClose(head + "X-A: ")), ClassReset},
		{"closes within the body", at(sayAndClose(head + "Content-Length: 100\r\n\r\nhalf")), ClassReset},
		{"closes late in the body", at(sayAndClose(head + "Content-Length: 9999\r\n\r\n" + strings.Repeat("x", 5000))), ClassReset},
		{"closes within a chunk", at(sayAndClose(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab")), ClassReset},
		{"resets within the body", at(func(conn net.Conn) {
			sayAndClose(head + "Content-Length: 100\r\n\r\nhalf")(conn)
			_ = conn.(*net.TCPConn).SetLinger(0) // the close becomes a reset
		}), ClassReset},
		{"is not there", closedPort(t), ClassConnect},
		{"answers garbage", at(say("\x00\x01\x02 what\r\n\r\n")), ClassProtocol},
		{"answers much garbage", at(say("x" + strings.Repeat("ä", 4000) + "\r\n\r\n")), ClassProtocol},
		{"answers another protocol", at(say("SSH-2.0-OpenSSH_9.2\r\n")), ClassProtocol},
		{"answers an invalid version", at(say("HTTP/x.1 200 OK\r\n\r\n")), ClassProtocol},
		{"a bad chunk", at(say(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n")), ClassProtocol},
		{"a bad length", at(say(head + "Content-Length: -5\r\n\r\n")), ClassProtocol},
		{"two lengths", at(say(head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n")), ClassProtocol},
		{"a huge header", at(say(head + "X-A: " + strings.Repeat("x", 2*responseHeaderBytes) + "\r\n\r\n")), ClassProtocol},
		{"endless headers", at(func(conn net.Conn) {
			readRequest(conn)
			repeatAfter(conn, head, "X-A: b\r\n")
		}), ClassProtocol},
		{"endless informational answers", at(func(conn net.Conn) {
			readRequest(conn)
			repeat(conn, "HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n", nil)
		}), ClassProtocol},
		{"an endless body", at(func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, head+"\r\n")
			repeat(conn, strings.Repeat("x", 64<<10), endless)
		}), ClassDelivered},
		{"a gzip bomb", gzipBomb(t), ClassDelivered},
		{"a text that is not UTF-8", at(say(head + "Content-Length: 5\r\n\r\n\xff\x00\xfeab")), ClassDelivered},
		{"a self-signed certificate", selfSigned.URL, ClassTLS},
		{"plain HTTP for https", newSocket(t, sayAndClose("HTTP/1.1 400 Bad Request\r\n\r\n")).overTLS(), ClassTLS},
		{"garbage for https", newSocket(t, say("what is this")).overTLS(), ClassTLS},
		{"closes in the handshake", newSocket(t, func(net.Conn) {}).overTLS(), ClassReset},
	}...)
}

// hangingReceivers returns the receivers at which an attempt lasts until its timeout.
func hangingReceivers(t *testing.T) []hostile {
	const head = "HTTP/1.1 200 OK\r\n"
	at := func(handle func(net.Conn)) string { return newSocket(t, handle).URL }
	return []hostile{
		{"hangs", at(hang), ClassTimeout},
		{"hangs within a header", at(say(head + "X-A: ")), ClassTimeout},
		{"hangs within the body", at(say(head + "Content-Length: 100\r\n\r\nhalf")), ClassTimeout},
		{"hangs late in the body", at(say(head + "Content-Length: 9999\r\n\r\n" + strings.Repeat("x", 5000))), ClassTimeout},
		{"hangs within a chunk", at(say(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab")), ClassTimeout},
		{"hangs after an informational answer", at(say("HTTP/1.1 102 Processing\r\n\r\n")), ClassTimeout},
		{"hangs in the handshake", newSocket(t, hang).overTLS(), ClassTimeout},
		{"accepts and never reads", neverReads(t), ClassTimeout},
		{"sends its body byte by byte", at(func(conn net.Conn) {
			readRequest(conn)
			drip(conn, head+"\r\n", "x")
		}), ClassTimeout},
	}
}

// closedPort returns the URL of an address that refuses connections until the test ends.
func closedPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuse(t, listener)
	return "http://" + listener.Addr().String()
}

// neverReads returns the URL of a listener that accepts no connection, so that the connections stay in the kernel.
func neverReads(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

// gzipBomb answers 4 MiB of zeros in 4 KiB.
func gzipBomb(t *testing.T) string {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(make([]byte, 4<<20))
	_ = zip.Close()
	return newReceiver(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}).URL
}
