package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// What is read of an answer: the start that the attempt keeps, and as much again as lets the connection be used for the
// next request. An answer that goes on is cut off with its connection. Nothing is decompressed: we ask for the body as
// it is, so none can grow in our hands.
const (
	responseBytesKept   = 1 << 10
	responseBytesRead   = 64 << 10
	responseHeaderBytes = 64 << 10
)

// Idle connections are kept for more endpoints than are talked to at once, for opening one costs more than a request.
// One takes some 20 KiB.
const (
	idleConnsPerSlot = 4
	idleConnsMin     = 1024
)

// deliverer sends one message at a time, each within its deadline.
type deliverer struct {
	transport *http.Transport // alone, without an http.Client: it follows no redirect and keeps no cookie
	timeout   time.Duration
	allowHTTP bool
	userAgent string
	keys      Keyring
}

func newDeliverer(c Config) (*deliverer, error) {
	secure, err := clientTLS(c)
	if err != nil {
		return nil, err
	}
	through, err := newProxy(c.ProxyURL, c.ConnectTimeout, secure.RootCAs)
	if err != nil {
		return nil, fmt.Errorf("ProxyURL: %w", err)
	}
	d := &dialer{
		resolver: net.DefaultResolver, guard: newGuard(c.AllowedCIDRs, c.DeniedAddrs, c.AllowedPorts),
		proxy: through, tls: secure, lookup: c.LookupTimeout, connect: c.ConnectTimeout, secure: c.TLSTimeout,
	}
	if c.resolver != nil {
		d.resolver = c.resolver
	}
	transport := &http.Transport{
		Proxy:             nil, // environment proxies are not picked up: they would dial what the guard closes
		DialContext:       d.dial,
		DialTLSContext:    d.dialTLS,
		ForceAttemptHTTP2: true,
		// Without pings a connection whose other end is gone goes on being used, by one request after the other.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: c.DeliveryTimeout, PingTimeout: max(c.DeliveryTimeout/3, 10*time.Millisecond)},
		MaxIdleConns:           max(idleConnsPerSlot*c.MaxInFlight, idleConnsMin),
		MaxIdleConnsPerHost:    c.EndpointMaxInFlight,
		MaxConnsPerHost:        c.EndpointMaxInFlight, // or a dial that an idle connection overtook leaves one too many
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: responseHeaderBytes,
		DisableCompression:     true,
	}
	if c.HeaderTimeout < c.DeliveryTimeout { // otherwise the whole's bound is the one that ends it, and is named
		transport.ResponseHeaderTimeout = c.HeaderTimeout
	}
	return &deliverer{
		transport: transport, timeout: c.DeliveryTimeout, allowHTTP: c.AllowHTTP, userAgent: c.UserAgent, keys: c.Keys,
	}, nil
}

func (d *deliverer) close() { d.transport.CloseIdleConnections() }

// deliver makes one attempt. When ctx ends first, the answer is not one: the caller must not record it.
func (d *deliverer) deliver(ctx context.Context, m message) answer {
	a := answer{startedAt: time.Now()}
	options, headers, err := decode(m)
	if err != nil {
		a.class, a.err = classBlocked, err.Error()
		return a
	}
	timeout := d.timeout
	if options.Timeout > 0 {
		timeout = min(timeout, options.Timeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, timeoutError{"the request", timeout})
	defer cancel()
	d.send(withTrip(ctx), m, parts{options: options, headers: headers}, &a)
	a.duration = time.Since(a.startedAt)
	return a
}

func (d *deliverer) send(ctx context.Context, m message, p parts, a *answer) {
	if !d.allowHTTP && strings.HasPrefix(strings.ToLower(m.url), "http:") {
		a.class, a.err = classBlocked, "url: scheme http is not allowed here; want https (or allow it: OUTBOX_ALLOW_HTTP)"
		return
	}
	req, err := d.request(ctx, m, p, a)
	var unknown errUnknownKey
	switch {
	case errors.As(err, &unknown):
		a.waitsFor = unknown.Error()
		return
	case err != nil:
		a.class, a.err = classBlocked, err.Error()
		return
	}
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		a.fault(ctx, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 100 || resp.StatusCode > 599 { // RFC 9110, section 15; net/http takes any three digits
		a.class, a.err = classProtocol, fmt.Sprintf("answered %03d, which is not a status", resp.StatusCode)
		return
	}
	a.statusCode = resp.StatusCode
	if resp.StatusCode != http.StatusSwitchingProtocols { // whose body is the bare connection, which no deadline ends
		a.response, err = readStart(resp)
	}
	switch {
	case err != nil:
		a.fault(ctx, phaseError{phaseBody, err})
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		a.class = classDelivered
	default:
		a.class, a.err = classStatus, statusError(resp)
		a.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
}

// fault takes down why no complete answer came. When the whole time was up, that is why, whatever broke of it.
func (a *answer) fault(ctx context.Context, err error) {
	var timeout timeoutError
	var at phaseError
	var atProxy errProxy
	whole := errors.As(context.Cause(ctx), &timeout)
	if whole && !errors.As(err, &at) {
		at.phase = tripOf(ctx).phase()
	}
	switch {
	case errors.As(err, &atProxy):
		a.waitsFor = shortText(atProxy)
	case whole && at.phase == phaseProxy:
		a.waitsFor = shortText(errProxy{errSilent})
	case whole:
		a.class, a.err = classTimeout, timeout.Error()+", in its "+at.phase.String()
	default:
		a.class, a.err = classify(err)
	}
}

// readStart returns the start of the body as text that Postgres can carry. It reads on within bounds, so that the
// connection can be used again.
func readStart(resp *http.Response) (string, error) {
	if resp.ContentLength == 0 {
		return "", nil
	}
	start := startBuffers.Get().(*[responseBytesKept]byte)
	defer startBuffers.Put(start)
	n, err := 0, error(nil)
	for n < len(start) && err == nil { // not io.ReadFull, whose short read looks like a body that was cut off
		var more int
		more, err = resp.Body.Read(start[n:])
		n += more
	}
	text := validText(start[:n])
	if err == nil {
		_, err = io.CopyN(io.Discard, resp.Body, responseBytesRead-responseBytesKept)
	}
	if err == io.EOF {
		err = nil
	}
	return text, err
}

// startBuffers spare each answer an allocation; nothing of them is handed on.
var startBuffers = sync.Pool{New: func() any { return new([responseBytesKept]byte) }}

func validText(b []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
}
