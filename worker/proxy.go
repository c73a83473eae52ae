package worker

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

// An egress proxy is given the address that we resolved and checked, never the name: what the proxy then connects to is
// its own affair, and cannot be checked from here.

// newProxy reads a proxy's URL: http or https (CONNECT), or socks5. Its error never holds the URL, which may hold a
// password. An https proxy is verified by roots; the system's when nil.
func newProxy(raw string, connect time.Duration, roots *x509.CertPool) (proxy, error) {
	if raw == "" {
		return nil, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("cannot be parsed; want http://[user:password@]host:port, https://… or socks5://…")
	}
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080"}
	port, known := ports[u.Scheme]
	if !known {
		return nil, fmt.Errorf("scheme %.20q; want http, https or socks5", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("host is empty")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, errors.New("port is not in 1 to 65535")
	}
	hop := proxyHop{address: net.JoinHostPort(u.Hostname(), port), connect: connect}
	if u.Scheme == "socks5" {
		return newSOCKSProxy(hop, u.User)
	}
	if u.Scheme == "https" {
		hop.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	return connectProxy{proxyHop: hop, user: u.User}, nil
}

// errSilent stands for a proxy that takes too long, in each of its ways to do so.
var errSilent = errors.New("it did not answer in time")

// proxyHop reaches the proxy itself, which an operator named: the guard is not asked.
type proxyHop struct {
	address string
	tls     *tls.Config // nil: plain
	connect time.Duration
}

// open connects to the proxy and runs the handshake that leads to the address behind it, within the time that ctx and
// connect leave. Every fault but errRefusedByProxy is the proxy's.
func (p proxyHop) open(ctx context.Context, handshake func(net.Conn) (net.Conn, error)) (net.Conn, error) {
	tripOf(ctx).enter(phaseProxy)
	ctx, cancel := context.WithTimeout(ctx, p.connect)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, proxyFault(err)
	}
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, proxyFault(err)
		}
		conn = secure
	}
	interrupt := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	through, err := handshake(conn)
	if !interrupt() && err == nil {
		err = ctx.Err() // the deadline was set meanwhile: the connection is of no use
	}
	if err == nil {
		return through, nil
	}
	_ = conn.Close()
	if !errors.Is(err, errRefusedByProxy) {
		err = proxyFault(err)
	}
	return nil, err
}

func proxyFault(err error) error {
	if isTimeout(err) {
		err = errSilent
	}
	return errProxy{err}
}

// connectProxy speaks HTTP's CONNECT (RFC 9110, section 9.3.6).
type connectProxy struct {
	proxyHop
	user *url.Userinfo
}

func (p connectProxy) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return p.open(ctx, func(conn net.Conn) (net.Conn, error) {
		req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to.String()}, Host: to.String(), Header: http.Header{}}
		if p.user != nil {
			password, _ := p.user.Password()
			credentials := base64.StdEncoding.EncodeToString([]byte(p.user.Username() + ":" + password))
			req.Header.Set("Proxy-Authorization", "Basic "+credentials)
		}
		if err := req.Write(conn); err != nil {
			return nil, err
		}
		// The limit bounds the answer's head; behind it the tunnel begins, and what was buffered of it is handed on.
		head := &io.LimitedReader{R: conn, N: proxyHeadBytes}
		read := bufio.NewReader(head)
		resp, err := http.ReadResponse(read, req)
		switch {
		case isTimeout(err):
			return nil, err
		case err != nil: // whose text may quote what came, and that our own request
			return nil, errors.New("it closed the connection, or its answer to CONNECT is not HTTP")
		}
		head.N = math.MaxInt64
		switch code := resp.StatusCode; {
		case code >= 200 && code <= 299:
			return tunnel{Conn: conn, read: read}, nil
		case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
			return nil, fmt.Errorf("%w: it answered %d", errRefusedByProxy, code)
		}
		return nil, fmt.Errorf("it answered %d to CONNECT", resp.StatusCode)
	})
}

// proxyHeadBytes bounds the head of an answer to CONNECT.
const proxyHeadBytes = 64 << 10

// tunnel reads first what the handshake had read ahead.
type tunnel struct {
	net.Conn
	read *bufio.Reader
}

func (t tunnel) Read(p []byte) (int, error) { return t.read.Read(p) }
