package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// proxy opens a connection to an address through an egress proxy. The proxy is given the address that was looked up and
// checked here, never the host's name. What the proxy then connects to cannot be checked from here.
//
// An error that wraps errProxyRefused is about the endpoint. Every other error is a proxyError.
type proxy interface {
	dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// proxyError is a failure of the proxy. It says nothing about the endpoint behind the proxy.
type proxyError struct{ err error }

func (e proxyError) Error() string { return "proxy: " + e.err.Error() }
func (e proxyError) Unwrap() error { return e.err }

var (
	// errProxySilent means that the proxy took too long, in any phase of its handshake.
	errProxySilent = errors.New("it did not answer in time")

	// errProxyRefused means that the proxy answered, and could not connect to the endpoint.
	errProxyRefused = errors.New("the proxy could not reach it")
)

// CheckProxyURL reports what is wrong with a proxy's URL, or nil for a good one and for "". The error does not begin with
// the name of a field, and never contains the URL, because the URL may contain a password.
func CheckProxyURL(raw string) error {
	_, err := newProxy(raw, 0, nil)
	return err
}

// newProxy returns the proxy of a URL, and nil for "". roots returns the roots that verify the certificate of an https proxy;
// when it is nil, the system's do. Its errors are those of CheckProxyURL.
func newProxy(raw string, connectTimeout time.Duration, roots func() *x509.CertPool) (proxy, error) {
	if raw == "" {
		return nil, nil
	}
	u, port, err := parseProxyURL(raw)
	if err != nil {
		return nil, err
	}
	hop := proxyHop{address: net.JoinHostPort(u.Hostname(), strconv.Itoa(int(port))), timeout: connectTimeout}
	if u.Scheme == "socks5" {
		return newSOCKSProxy(hop, u.User)
	}
	if u.Scheme == "https" {
		hop.tls, hop.roots = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}, roots
	}
	return connectProxy{proxyHop: hop, user: u.User}, nil
}

// parseProxyURL returns the URL of a proxy and its port. Its errors are those of CheckProxyURL.
func parseProxyURL(raw string) (u *url.URL, port uint16, err error) {
	u, err = url.Parse(raw)
	if err != nil {
		return nil, 0, errors.New("cannot be parsed; want http://[user:password@]host:port, https://… or socks5://…")
	}
	port, known := map[string]uint16{"http": 80, "https": 443, "socks5": 1080}[u.Scheme]
	if !known {
		return nil, 0, fmt.Errorf("scheme %.20q; want http, https or socks5", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, 0, errors.New("host is empty")
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return nil, 0, errors.New("port is not in 1 to 65535")
		}
		port = uint16(n)
	}
	return u, port, nil
}

// serviceOf returns the proxy of a valid URL as a service that nothing is delivered to. ok is false for "".
func serviceOf(raw string) (s Service, ok bool) {
	u, port, err := parseProxyURL(raw)
	if err != nil {
		return s, false
	}
	return Service{What: "the proxy", Host: u.Hostname(), Port: port}, true
}

// proxyHop is the way to the proxy itself. The guard does not check it, because an operator named it.
type proxyHop struct {
	address string
	tls     *tls.Config // nil: plain TCP
	roots   func() *x509.CertPool
	timeout time.Duration // for the connection to the proxy and the handshake with it
}

// dialThrough connects to the proxy and runs the handshake that leads to the address behind it.
func (p proxyHop) dialThrough(ctx context.Context, handshake func(net.Conn) (net.Conn, error)) (net.Conn, error) {
	tripOf(ctx).enter(phaseProxy)
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, proxyFault(err)
	}
	interrupt := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	through, err := handshake(conn)
	if !interrupt() && err == nil {
		err = ctx.Err() // the deadline was set in the meantime, so the connection is useless
	}
	if err == nil {
		return through, nil
	}
	_ = conn.Close()
	if !errors.Is(err, errProxyRefused) {
		err = proxyFault(err)
	}
	return nil, err
}

// connect connects to the proxy, over TLS if its URL says so.
func (p proxyHop) connect(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
	if err != nil || p.tls == nil {
		return conn, err
	}
	config := p.tls.Clone()
	config.RootCAs = p.roots()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

func proxyFault(err error) error {
	if isTimeout(err) {
		err = errProxySilent
	}
	return proxyError{err}
}

// connectProxy uses HTTP's CONNECT (RFC 9110, section 9.3.6).
type connectProxy struct {
	proxyHop
	user *url.Userinfo
}

func (p connectProxy) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return p.dialThrough(ctx, func(conn net.Conn) (net.Conn, error) {
		req := p.request(to)
		if err := req.Write(conn); err != nil {
			return nil, err
		}
		return readConnected(conn, req)
	})
}

func (p connectProxy) request(to netip.AddrPort) *http.Request {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to.String()}, Host: to.String(), Header: http.Header{}}
	if p.user != nil {
		password, _ := p.user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(p.user.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	return req
}

// proxyHeadBytes bounds the head of an answer to CONNECT.
const proxyHeadBytes = 64 << 10

// readConnected reads the answer to CONNECT and returns the tunnel that begins behind it.
func readConnected(conn net.Conn, req *http.Request) (net.Conn, error) {
	head := &io.LimitedReader{R: conn, N: proxyHeadBytes}
	read := bufio.NewReader(head)
	resp, err := http.ReadResponse(read, req)
	switch {
	case isTimeout(err):
		return nil, err
	case err != nil: // its text may quote what the proxy sent, which may be our own request with the password
		return nil, errors.New("it closed the connection, or its answer to CONNECT is not HTTP")
	}
	head.N = math.MaxInt64
	switch code := resp.StatusCode; {
	case code >= 200 && code <= 299:
		return tunnel{Conn: conn, read: read}, nil
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return nil, fmt.Errorf("%w: it answered %d", errProxyRefused, code)
	}
	return nil, fmt.Errorf("it answered %d to CONNECT", resp.StatusCode)
}

// tunnel is a connection through a proxy. It reads first the bytes that were buffered with the answer to CONNECT.
type tunnel struct {
	net.Conn
	read *bufio.Reader
}

func (t tunnel) Read(p []byte) (int, error) { return t.read.Read(p) }
