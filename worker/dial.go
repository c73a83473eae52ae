package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// dialer connects to a host of a stranger's choosing: it looks the name up once, drops every address that the guard
// closes, and connects to those that are left, as they are. There is no second lookup that could answer differently.
type dialer struct {
	resolver *net.Resolver
	guard    *guard
	proxy    proxy // nil: direct
	tls      *tls.Config
	lookup   time.Duration
	connect  time.Duration
	secure   time.Duration // of the TLS handshake
}

// addressesMax bounds how many of a name's addresses are tried.
const addressesMax = 4

// dial is an http.Transport's DialContext.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, done := withinRequest(ctx)
	defer done()
	addresses, err := d.resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.connect, timeoutError{phaseConnect.String(), d.connect})
	defer cancel()
	var first, last error
	var atProxy errProxy
	for i, a := range addresses {
		var conn net.Conn
		if conn, last = d.dialOne(ctx, a, len(addresses)-i); last == nil {
			return conn, nil
		}
		errors.As(last, &atProxy)
		if first == nil {
			first = last
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case atProxy.err != nil: // also when the time was up: what the proxy did not do says nothing about the endpoint
		return nil, atProxy
	case ctx.Err() != nil:
		return nil, phaseError{phaseConnect, context.Cause(ctx)}
	case isTimeout(last): // a socket may see the deadline pass before its context does
		return nil, phaseError{phaseConnect, timeoutError{phaseConnect.String(), d.connect}}
	}
	return nil, phaseError{phaseConnect, first}
}

// dialTLS is an http.Transport's DialTLSContext. The handshake is made here for its faults to be known as such: most of
// them are plain text.
func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, done := withinRequest(ctx)
	defer done()
	tripOf(ctx).enter(phaseTLS)
	ctx, cancel := context.WithTimeoutCause(ctx, d.secure, timeoutError{phaseTLS.String(), d.secure})
	defer cancel()
	config := d.tls.Clone()
	if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return nil, phaseError{phaseTLS, err}
	}
	secured := tls.Client(conn, config)
	err = secured.HandshakeContext(ctx)
	if err == nil {
		return secured, nil
	}
	_ = conn.Close()
	var record tls.RecordHeaderError
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" {
		err = http.ErrSchemeMismatch
	}
	return nil, phaseError{phaseTLS, err}
}

// withinRequest ends a dial soon after the deadline of the request that it is made for. The transport lets it go on, for
// a later request to use: many short requests to an address that swallows packets would so leave ever more sockets behind.
func withinRequest(ctx context.Context) (context.Context, context.CancelFunc) {
	if t := tripOf(ctx); t != nil {
		if deadline, ok := t.Deadline(); ok {
			return context.WithDeadline(ctx, deadline.Add(dialGrace))
		}
	}
	return ctx, func() {}
}

// dialGrace lets the request's own deadline be the first to pass, which is the one to name.
const dialGrace = time.Second

// dialOne gives an address its part of what is left of the time, so that one that swallows packets leaves some to the
// next.
func (d *dialer) dialOne(ctx context.Context, a netip.AddrPort, parts int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && parts > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(parts))
		defer cancel()
	}
	if d.proxy != nil {
		return d.proxy.dial(ctx, a)
	}
	tripOf(ctx).enter(phaseConnect)
	direct := net.Dialer{Control: d.guard.control}
	return direct.DialContext(ctx, "tcp", a.String())
}

// resolve returns the addresses that may be dialled, or why there is none.
func (d *dialer) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errBlocked{fmt.Errorf("%q is not host:port", address)}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, errBlocked{fmt.Errorf("port %q is not a number", portText)}
	}
	ips, err := d.lookUp(ctx, host)
	if err != nil {
		return nil, phaseError{phaseLookup, err}
	}
	var open []netip.AddrPort
	for _, ip := range ips {
		a := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if blocked := d.guard.check(a); blocked != nil {
			err = blocked
			continue
		}
		if open = append(open, a); len(open) == addressesMax {
			break
		}
	}
	if len(open) == 0 && err == nil {
		err = phaseError{phaseLookup, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}}
	}
	if len(open) == 0 {
		return nil, err
	}
	return open, nil
}

func (d *dialer) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		return []netip.Addr{ip}, nil
	}
	tripOf(ctx).enter(phaseLookup)
	ctx, cancel := context.WithTimeoutCause(ctx, d.lookup, timeoutError{phaseLookup.String(), d.lookup})
	defer cancel()
	ips, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return ips, err
}

// proxy opens a connection to an address through somebody else. An error that is the proxy's own fault is an errProxy.
type proxy interface {
	dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// errProxy is a fault of the proxy, not to be charged to the endpoint behind it.
type errProxy struct{ err error }

func (e errProxy) Error() string { return "proxy: " + e.err.Error() }
func (e errProxy) Unwrap() error { return e.err }

// errRefusedByProxy is what the proxy says of the endpoint, or does not say although it is there.
var errRefusedByProxy = errors.New("the proxy could not reach it")
