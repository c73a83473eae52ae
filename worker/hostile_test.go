package worker

import (
	"bytes"
	"compress/gzip"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hostile is a receiver that does no good, and how its attempt must be told.
type hostile struct {
	name  string
	url   string
	class string
	state outbox.State
}

// hostileTimeout is that of the messages whose receivers hang. The others have the worker's, and as long as they want.
const hostileTimeout = 300 * time.Millisecond

// TestAHostileReceiverCostsOneAttempt, told by its class, and nothing that others would miss: the slots are all free
// afterwards, and a message to somebody else goes through.
func TestAHostileReceiverCostsOneAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var endless atomic.Int64
	receivers := hostileReceivers(t, &endless)
	ids := make([]outbox.ID, len(receivers))
	for i, h := range receivers {
		m := outbox.Message{Outcome: testdb.Outcome(h.name, h.url), URL: h.url}
		if h.class == classTimeout {
			m.Options.Timeout = hostileTimeout
		}
		ids[i] = r.write(m)
	}
	c := r.once()
	c.DeliveryTimeout, c.Lease = testPatience, testPatience+LeaseMargin
	w, _ := r.run(c)
	for i, h := range receivers {
		d := r.state(ids[i])
		r.await(h.name+" has its attempt", func() bool {
			d = r.state(ids[i])
			return d.State == outbox.StateRetrying || d.State == outbox.StateDelivered || d.State == outbox.StateDead
		})
		if a := d.AttemptList[0]; d.State != h.state || !strings.Contains(h.class, a.Class) || len(d.AttemptList) != 1 {
			t.Errorf("%s: %s after %s (%s), want %s after %s", h.name, d.State, a.Class, text(a.Error), h.state, h.class)
		}
		if response := d.AttemptList[0].Response; response != nil && len(*response) > 3*responseBytesKept {
			t.Errorf("%s: %d bytes of the answer are kept", h.name, len(*response))
		}
	}
	r.await("every slot is free", func() bool {
		w.flights.slots.mu.Lock()
		defer w.flights.slots.mu.Unlock()
		return w.flights.slots.free == w.config.MaxInFlight
	})
	r.awaitState(r.writeTo(newReceiver(t, nil).URL, "healthy"), outbox.StateDelivered)
	// What was read is bounded by responseBytesRead, what was written also by the kernel's buffers: tens of megabytes.
	if n := endless.Load(); n > 64<<20 {
		t.Errorf("the endless answer was taken for %d MiB", n>>20)
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func hostileReceivers(t *testing.T, endless *atomic.Int64) []hostile {
	const head = "HTTP/1.1 200 OK\r\n"
	retrying, delivered := outbox.StateRetrying, outbox.StateDelivered
	at := func(handle func(net.Conn)) string { return newSocket(t, handle).URL }
	selfSigned := httptest.NewUnstartedServer(nil)
	selfSigned.Config.ErrorLog = log.New(io.Discard, "", 0)
	selfSigned.StartTLS()
	t.Cleanup(selfSigned.Close)
	return append(hangingReceivers(t), []hostile{
		// net/http takes a close before the first byte of the request for that of an idle connection.
		{"closes at once", at(func(net.Conn) {}), classReset + " or " + classProtocol, retrying},
		{"closes after the request", at(sayAndClose("")), classReset, retrying},
		{"closes mid-header", at(sayAndClose(head + "X-A: ")), classReset, retrying},
		{"closes mid-body", at(sayAndClose(head + "Content-Length: 100\r\n\r\nhalf")), classReset, retrying},
		{"closes mid-body, later", at(sayAndClose(head + "Content-Length: 9999\r\n\r\n" + strings.Repeat("x", 5000))), classReset, retrying},
		{"closes mid-chunk", at(sayAndClose(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab")), classReset, retrying},
		{"resets mid-body", at(func(conn net.Conn) {
			sayAndClose(head + "Content-Length: 100\r\n\r\nhalf")(conn)
			_ = conn.(*net.TCPConn).SetLinger(0) // the close becomes a reset
		}), classReset, retrying},
		{"is not there", closedPort(t), classConnect, retrying},
		{"answers garbage", at(say("\x00\x01\x02 what\r\n\r\n")), classProtocol, retrying},
		{"answers garbage at length", at(say("x" + strings.Repeat("ä", 4000) + "\r\n\r\n")), classProtocol, retrying},
		{"answers another protocol", at(say("SSH-2.0-OpenSSH_9.2\r\n")), classProtocol, retrying},
		{"answers a version that is none", at(say("HTTP/x.1 200 OK\r\n\r\n")), classProtocol, retrying},
		{"a bad chunk", at(say(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n")), classProtocol, retrying},
		{"a bad length", at(say(head + "Content-Length: -5\r\n\r\n")), classProtocol, retrying},
		{"two lengths", at(say(head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n")), classProtocol, retrying},
		{"a huge header", at(say(head + "X-A: " + strings.Repeat("x", 2*responseHeaderBytes) + "\r\n\r\n")), classProtocol, retrying},
		{"endless headers", at(func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, head)
			repeat(conn, "X-A: b\r\n", nil)
		}), classProtocol, retrying},
		{"endless informational answers", at(func(conn net.Conn) {
			readRequest(conn)
			repeat(conn, "HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n", nil)
		}), classProtocol, retrying},
		{"an endless body", at(func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, head+"\r\n")
			repeat(conn, strings.Repeat("x", 64<<10), endless)
		}), classDelivered, delivered},
		{"a gzip bomb", gzipBomb(t), classDelivered, delivered},
		{"text that is none", at(say(head + "Content-Length: 5\r\n\r\n\xff\x00\xfeab")), classDelivered, delivered},
		{"a certificate of its own", selfSigned.URL, classTLS, retrying},
		{"plain HTTP for https", newSocket(t, sayAndClose("HTTP/1.1 400 Bad Request\r\n\r\n")).overTLS(), classTLS, retrying},
		{"garbage for https", newSocket(t, say("what is this")).overTLS(), classTLS, retrying},
		{"closes the handshake", newSocket(t, func(net.Conn) {}).overTLS(), classReset, retrying},
	}...)
}

// hangingReceivers cost their share of slots until the timeout, and no longer.
func hangingReceivers(t *testing.T) []hostile {
	const head = "HTTP/1.1 200 OK\r\n"
	at := func(handle func(net.Conn)) string { return newSocket(t, handle).URL }
	retrying := outbox.StateRetrying
	return []hostile{
		{"hangs", at(hang), classTimeout, retrying},
		{"hangs mid-header", at(say(head + "X-A: ")), classTimeout, retrying},
		{"hangs mid-body", at(say(head + "Content-Length: 100\r\n\r\nhalf")), classTimeout, retrying},
		{"hangs late in the body", at(say(head + "Content-Length: 9999\r\n\r\n" + strings.Repeat("x", 5000))), classTimeout, retrying},
		{"hangs mid-chunk", at(say(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab")), classTimeout, retrying},
		{"hangs after an informational answer", at(say("HTTP/1.1 102 Processing\r\n\r\n")), classTimeout, retrying},
		{"hangs in the handshake", newSocket(t, hang).overTLS(), classTimeout, retrying},
		{"accepts and never reads", neverReads(t), classTimeout, retrying},
		{"drips", at(func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, head+"\r\n")
			for err := error(nil); err == nil; time.Sleep(time.Millisecond) { // the receiver's slowness
				_, err = io.WriteString(conn, "x")
			}
		}), classTimeout, retrying},
	}
}

// TestSwitchingTheProtocolEndsTheAttempt: after such an answer net/http hands the connection over, bare of any timeout.
func TestSwitchingTheProtocolEndsTheAttempt(t *testing.T) {
	t.Parallel()
	for name, upgrade := range map[string]string{"with an upgrade": "Connection: Upgrade\r\nUpgrade: h2c\r\n", "with nothing": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			to := newSocket(t, say("HTTP/1.1 101 Switching Protocols\r\n"+upgrade+"\r\n"))
			id := r.writeTo(to.URL, "run-1")
			r.run(r.once())
			t.Cleanup(to.close) // so that the worker can stop, whatever came of it
			r.await("the attempt is recorded", func() bool { return len(r.state(id).AttemptList) > 0 })
			if d := r.state(id); d.State != outbox.StateDead || *d.DeadReason != "refused" || *d.LastStatusCode != 101 {
				t.Errorf("%s after %s %s", d.State, *d.LastClass, text(d.LastError))
			}
		})
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	return "http://" + listener.Addr().String()
}

// neverReads is a listener whose connections stay in the kernel.
func neverReads(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

// gzipBomb answers 8 MiB of zeros in 8 KiB.
func gzipBomb(t *testing.T) string {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(make([]byte, 8<<20))
	_ = zip.Close()
	return newReceiver(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}).URL
}
