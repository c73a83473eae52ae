package delivery

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// The classes of an attempt, as the column attempt.class names them.
const (
	ClassDelivered = "delivered" // a status of 2xx
	ClassStatus    = "status"    // any other status
	ClassTimeout   = "timeout"   // a phase, or the whole request, took too long
	ClassDNS       = "dns"       // the host has no address, or the lookup failed
	ClassConnect   = "connect"   // no connection to any address of the host
	ClassTLS       = "tls"       // the handshake failed, or the certificate is not trusted
	ClassReset     = "reset"     // the connection ended before the answer did
	ClassProtocol  = "protocol"  // what came back is not HTTP
	ClassBlocked   = "blocked"   // nothing was sent: the guard, or a fault of the message itself, forbids it
)

// Answer is how one attempt ended.
type Answer struct {
	Class      string        // one of the classes above; empty when WaitsFor is set
	StatusCode int           // 100 to 599; 0 when no answer came
	Err        string        // what went wrong; empty when the message was delivered. It does not quote the URL
	Response   string        // the start of the response body, as valid UTF-8 without NUL
	Note       string        // which headers were left out of the request, and why
	RetryAfter time.Duration // the wait that the endpoint asked for; 0 when it asked for none
	Unreached  bool          // no request was sent: the host could not be looked up, connected to, or trusted
	WaitsFor   string        // not empty: nothing was sent, and this is not an attempt. It names the missing key, or the proxy's fault
	StartedAt  time.Time
	Duration   time.Duration
	protocol   string // of the answer's HTTP: 1.1, 2
}

// How much of an answer is read. The attempt keeps the first responseBytesKept bytes of the body. Bytes up to
// responseBytesRead are read and dropped, so that the connection can carry the next request. A longer answer is cut off,
// and its connection is closed.
const (
	responseBytesKept   = 1 << 10
	responseBytesRead   = 64 << 10
	responseHeaderBytes = 64 << 10
)

// read fills in the answer from a response. It reads the body within the bounds above.
func (a *Answer) read(t *trip, resp *http.Response) {
	if resp.StatusCode < 100 || resp.StatusCode > 599 { // RFC 9110, section 15; net/http accepts any three digits
		a.Class, a.Err = ClassProtocol, fmt.Sprintf("answered %03d, which is not a status", resp.StatusCode)
		return
	}
	a.StatusCode, a.protocol = resp.StatusCode, strings.TrimSuffix(strings.TrimPrefix(resp.Proto, "HTTP/"), ".0")
	var err error
	if resp.StatusCode != http.StatusSwitchingProtocols { // its body is the bare connection, and no deadline ends a read of it
		a.Response, err = readStart(resp)
	}
	switch {
	case err != nil:
		a.fail(t, phaseError{phaseBody, err})
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		a.Class = ClassDelivered
	default:
		a.Class, a.Err = ClassStatus, statusError(resp)
		a.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
}

// startBuffers saves an allocation per answer. readStart copies what it returns, so no buffer is shared.
var startBuffers = sync.Pool{New: func() any { return new([responseBytesKept]byte) }}

// readStart returns the start of the body as text that Postgres can store. It then reads on, up to responseBytesRead.
func readStart(resp *http.Response) (string, error) {
	if resp.ContentLength == 0 {
		return "", nil
	}
	buffer := startBuffers.Get().(*[responseBytesKept]byte)
	defer startBuffers.Put(buffer)
	n, err := 0, error(nil)
	for n < len(buffer) && err == nil { // io.ReadFull would report a short body as one that was cut off
		var more int
		more, err = resp.Body.Read(buffer[n:])
		n += more
	}
	var dropped int64
	if err == nil {
		dropped, err = io.CopyN(io.Discard, resp.Body, responseBytesRead-responseBytesKept)
	}
	if err == io.EOF {
		err = nil
	}
	start := buffer[:n]
	if dropped > 0 { // the body goes on, so the cut is ours
		start = trimIncomplete(start)
	}
	return cleantext.Of(string(start)), err
}

// trimIncomplete returns b without an incomplete UTF-8 character at its end.
func trimIncomplete(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if !utf8.RuneStart(b[i]) {
			continue
		}
		if !utf8.FullRune(b[i:]) {
			return b[:i]
		}
		break
	}
	return b
}

// parseRetryAfter reads both forms of Retry-After, a number of seconds and a date (RFC 9110, section 10.2.3). A value
// that is invalid, or in the past, is 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err == nil || errors.Is(err, strconv.ErrRange) { // ErrRange comes with the largest number that fits
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// statusError says which status was answered. For a redirect it names the origin that it leads to, and no more: a path or a
// query may hold a token, for example the message's own.
func statusError(resp *http.Response) string {
	text := fmt.Sprintf("answered %d", resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		text += " " + name
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		text += "; redirects are not followed"
		if target, err := resp.Request.URL.Parse(resp.Header.Get("Location")); err == nil && target.Host != "" {
			text += fmt.Sprintf(" (to %.200q)", target.Scheme+"://"+target.Host)
		}
	}
	return text
}
