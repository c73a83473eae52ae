package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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

// deliverer sends one message at a time, each within its deadline.
type deliverer struct {
	client    *http.Client
	timeout   time.Duration
	allowHTTP bool
	userAgent string
	keys      Keyring
}

func newDeliverer(c Config) (*deliverer, error) {
	through, err := newProxy(c.ProxyURL, c.ConnectTimeout)
	if err != nil {
		return nil, fmt.Errorf("ProxyURL: %w", err)
	}
	secure, err := clientTLS(c)
	if err != nil {
		return nil, err
	}
	d := &dialer{
		resolver: net.DefaultResolver, guard: newGuard(c.AllowedCIDRs, c.DeniedAddrs, c.AllowedPorts),
		proxy: through, lookup: c.LookupTimeout, connect: c.ConnectTimeout,
	}
	transport := &http.Transport{
		Proxy:                  nil, // environment proxies are not picked up: they would dial what the guard closes
		DialContext:            d.dial,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    c.TLSTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           c.MaxInFlight,
		MaxIdleConnsPerHost:    c.EndpointMaxInFlight,
		MaxConnsPerHost:        c.EndpointMaxInFlight,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: responseHeaderBytes,
		DisableCompression:     true,
	}
	if c.HeaderTimeout < c.DeliveryTimeout { // otherwise the whole's bound is the one that ends it, and is named
		transport.ResponseHeaderTimeout = c.HeaderTimeout
	}
	return &deliverer{
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		timeout: c.DeliveryTimeout, allowHTTP: c.AllowHTTP, userAgent: c.UserAgent, keys: c.Keys,
	}, nil
}

func (d *deliverer) close() { d.client.CloseIdleConnections() }

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
	d.send(ctx, m, parts{options: options, headers: headers}, &a)
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
	resp, err := d.client.Do(req)
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
		a.response, err = readStart(resp.Body)
	}
	switch {
	case err != nil:
		a.fault(ctx, phaseError{"response body", err})
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
	if errors.As(context.Cause(ctx), &timeout) {
		a.class, a.err = classTimeout, timeout.Error()
		var phase phaseError
		if errors.As(err, &phase) {
			a.err += ", in its " + phase.phase
		}
		return
	}
	var fault errProxy
	if errors.As(err, &fault) {
		a.waitsFor = fault.Error()
		return
	}
	a.class, a.err = classify(err)
}

// readStart returns the start of the body as text that Postgres can carry. It reads on within bounds, so that the
// connection can be used again.
func readStart(body io.Reader) (string, error) {
	start := make([]byte, responseBytesKept)
	n, err := io.ReadFull(body, start)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return validText(start[:n]), nil
	}
	if err != nil {
		return validText(start[:n]), err
	}
	if _, err := io.CopyN(io.Discard, body, responseBytesRead-responseBytesKept); err != nil && err != io.EOF {
		return validText(start), err
	}
	return validText(start), nil
}

func validText(b []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
}
