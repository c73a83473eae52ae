package worker

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// What is read of an answer: the start that the attempt keeps, and as much again as lets the connection be used for the
// next request. An answer that goes on is cut off with its connection.
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
}

func newDeliverer(c Config) *deliverer {
	guard := newGuard(c.AllowedCIDRs)
	dialer := &net.Dialer{Control: guard.control}
	transport := &http.Transport{
		Proxy:                  nil, // environment proxies are not picked up: they would dial what the guard closes
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           c.MaxInFlight,
		MaxIdleConnsPerHost:    c.EndpointMaxInFlight,
		MaxConnsPerHost:        c.EndpointMaxInFlight,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: responseHeaderBytes,
		DisableCompression:     true, // what is kept of an answer is bounded as it comes over the wire
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &deliverer{client: client, timeout: c.DeliveryTimeout, allowHTTP: c.AllowHTTP, userAgent: c.UserAgent}
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
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d.post(ctx, m, forwarded(options.Forward, headers), &a)
	a.duration = time.Since(a.startedAt)
	if a.class == classTimeout {
		a.err = fmt.Sprintf("no complete answer within %v", timeout)
	}
	return a
}

func (d *deliverer) post(ctx context.Context, m message, extra extraHeaders, a *answer) {
	req, err := d.request(ctx, m, extra, a)
	if err != nil {
		a.class, a.err = classBlocked, err.Error()
		return
	}
	resp, err := d.client.Do(req)
	if err != nil {
		a.class, a.err = classify(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	a.statusCode = resp.StatusCode
	a.response, err = readStart(resp.Body)
	switch {
	case err != nil:
		a.class, a.err = classify(err)
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		a.class = classDelivered
	default:
		a.class, a.err = classStatus, statusError(resp)
		a.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
}

// request builds the POST. Our own headers are set last and by assignment: nothing a submitter supplies replaces one of
// them or adds to it.
func (d *deliverer) request(ctx context.Context, m message, extra extraHeaders, a *answer) (*http.Request, error) {
	if !d.allowHTTP && strings.HasPrefix(strings.ToLower(m.url), "http:") {
		return nil, errors.New("url: scheme http is not allowed here; want https (or allow it: OUTBOX_ALLOW_HTTP)")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(m.body))
	if err != nil {
		return nil, errors.New("url: cannot be parsed")
	}
	h := req.Header
	maps.Copy(h, extra.header)
	h["Content-Type"] = []string{contentType(m)}
	h["User-Agent"] = []string{d.userAgent}
	h["Webhook-Id"] = []string{m.id.String()}
	h["Webhook-Timestamp"] = []string{strconv.FormatInt(a.startedAt.Unix(), 10)}
	h["Workflow-Run-Status"] = []string{m.status.String()}
	leftOut := extra.leftOut
	if outbox.CheckHeader("Workflow-Run-Id", m.runID) == nil {
		h["Workflow-Run-Id"] = []string{m.runID}
	} else {
		leftOut = append(leftOut, "Workflow-Run-Id: the run id holds a control character")
	}
	if len(leftOut) > 0 {
		a.note = "left out: " + strings.Join(leftOut, "; ")
	}
	return req, nil
}

// contentType of the body: the error text of a run that did not succeed, or what its result looks like.
func contentType(m message) string {
	switch {
	case m.status != outbox.Succeeded:
		return "text/plain; charset=utf-8"
	case json.Valid(m.body):
		return "application/json"
	case utf8.Valid(m.body):
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
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
		return "", err
	}
	if _, err := io.CopyN(io.Discard, body, responseBytesRead-responseBytesKept); err != nil && err != io.EOF {
		return validText(start), err
	}
	return validText(start), nil
}

func validText(b []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
}
