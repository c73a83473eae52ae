package delivery

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

// dialer connects to a host that a stranger chose. It looks the host up once, drops every address that the guard blocks,
// and connects to the addresses that are left. It makes no second lookup, which could return another address.
type dialer struct {
	resolver       *net.Resolver
	guard          *guard
	proxy          proxy // nil: connect directly
	tls            *clientTLS
	lookupTimeout  time.Duration
	connectTimeout time.Duration // for all addresses of a host together
	tlsTimeout     time.Duration
}

// addressesMax bounds how many addresses of a host are tried.
const addressesMax = 4

// dialGrace is how long a dial may go on after its request's deadline. It lets the request's own deadline pass first,
// because that is the deadline to name.
const dialGrace = time.Second

// dial is the DialContext of an http.Transport.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	c, err := d.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

// connect looks the host up and connects to it.
func (d *dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	if err := tripOf(ctx).dialed(); err != nil {
		return nil, err
	}
	ctx, done := withinRequest(ctx)
	defer done()
	addresses, err := d.resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.connectTimeout, timeoutError{phaseConnect.String(), d.connectTimeout})
	defer cancel()
	var first, last error
	var atProxy proxyError
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
	case atProxy.err != nil: // even when the time is up: a proxy that fails says nothing about the endpoint
		return nil, atProxy
	case ctx.Err() != nil:
		return nil, phaseError{phaseConnect, context.Cause(ctx)}
	case isTimeout(last): // a socket may see the deadline pass before its context does
		return nil, phaseError{phaseConnect, timeoutError{phaseConnect.String(), d.connectTimeout}}
	}
	return nil, phaseError{phaseConnect, first}
}

// dialTLS is the DialTLSContext of an http.Transport. It makes the handshake itself, to know that an error came from the
// handshake: most of these errors have no type.
func (d *dialer) dialTLS(ctx context.Context, _, address string) (net.Conn, error) {
	c, err := d.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	below := &conn{Conn: c}
	ctx, done := withinRequest(ctx)
	defer done()
	tripOf(ctx).enter(phaseTLS)
	ctx, cancel := context.WithTimeoutCause(ctx, d.tlsTimeout, timeoutError{phaseTLS.String(), d.tlsTimeout})
	defer cancel()
	config := d.tls.config.Load().Clone()
	if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
		_ = below.Close()
		return nil, phaseError{phaseTLS, err}
	}
	secured := tls.Client(below, config)
	err = secured.HandshakeContext(ctx)
	if err == nil {
		below.http2 = secured.ConnectionState().NegotiatedProtocol == "h2"
		return secured, nil
	}
	_ = below.Close()
	var record tls.RecordHeaderError
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" {
		err = http.ErrSchemeMismatch
	}
	return nil, phaseError{phaseTLS, err}
}

// withinRequest bounds a dial by the deadline of the request that it is made for, plus dialGrace. The transport lets such
// a dial go on for a later request, so many short requests to an address that drops packets would leave more and more
// sockets behind.
func withinRequest(ctx context.Context) (context.Context, context.CancelFunc) {
	if t := tripOf(ctx); t != nil {
		if deadline, ok := t.Deadline(); ok {
			return context.WithDeadline(ctx, deadline.Add(dialGrace))
		}
	}
	return ctx, func() {}
}

// dialOne connects to one address. It uses one part of the time that is left, so that an address that drops packets
// leaves time for the next one.
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

// resolve returns the addresses of host:port that may be dialled, or why there is none.
func (d *dialer) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, blockedError{fmt.Errorf("%q is not host:port", address)}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, blockedError{fmt.Errorf("port %q is not a number", portText)}
	}
	ips, err := d.lookUp(ctx, host)
	if err != nil {
		return nil, phaseError{phaseLookup, err}
	}
	var allowed []netip.AddrPort
	for _, ip := range ips {
		a := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if blocked := d.guard.check(a); blocked != nil {
			err = blocked
			continue
		}
		if allowed = append(allowed, a); len(allowed) == addressesMax {
			break
		}
	}
	if len(allowed) > 0 {
		return allowed, nil
	}
	if err == nil {
		err = phaseError{phaseLookup, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}}
	}
	return nil, err
}

// lookUp returns the addresses of a host, blocked ones included.
func (d *dialer) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		return []netip.Addr{ip}, nil
	}
	tripOf(ctx).enter(phaseLookup)
	ctx, cancel := context.WithTimeoutCause(ctx, d.lookupTimeout, timeoutError{phaseLookup.String(), d.lookupTimeout})
	defer cancel()
	ips, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return ips, err
}
