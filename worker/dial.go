package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// dialer connects to a host of a stranger's choosing: it looks the name up once, drops every address that the guard
// closes, and connects to those that are left, as they are. There is no second lookup that could answer differently.
type dialer struct {
	resolver *net.Resolver
	guard    *guard
	proxy    proxy // nil: direct
	lookup   time.Duration
	connect  time.Duration
}

// addressesMax bounds how many of a name's addresses are tried.
const addressesMax = 4

// phaseError says in which phase of a request a fault came.
type phaseError struct {
	phase string
	err   error
}

func (e phaseError) Error() string { return e.phase + ": " + e.err.Error() }
func (e phaseError) Unwrap() error { return e.err }

// dial is an http.Transport's DialContext.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	addresses, err := d.resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.connect, timeoutError{"connect", d.connect})
	defer cancel()
	var first error
	for i, a := range addresses {
		conn, err := d.dialOne(ctx, a, len(addresses)-i)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		first = cause
	}
	return nil, phaseError{"connect", first}
}

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
		return nil, phaseError{"lookup", err}
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
		err = phaseError{"lookup", &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}}
	}
	if len(open) == 0 {
		return nil, err
	}
	return open, nil
}

func (d *dialer) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.lookup, timeoutError{"lookup", d.lookup})
	defer cancel()
	ips, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return ips, err
}

// timeoutError names what took too long.
type timeoutError struct {
	what string
	max  time.Duration
}

func (e timeoutError) Error() string { return fmt.Sprintf("%s took longer than %v", e.what, e.max) }
func (timeoutError) Timeout() bool   { return true }

// proxy opens a connection to an address through somebody else. An error that is the proxy's own fault is an errProxy.
type proxy interface {
	dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// errProxy is a fault of the proxy, not to be charged to the endpoint behind it.
type errProxy struct{ err error }

func (e errProxy) Error() string { return "proxy: " + e.err.Error() }
func (e errProxy) Unwrap() error { return e.err }

var errRefusedByProxy = errors.New("the proxy could not reach it")
