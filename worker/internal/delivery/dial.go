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
	"syscall"
	"time"
)

// dialer connects to a host that a submitter chose. It looks the host up once, drops every address that the guard blocks,
// and connects to one of the remaining addresses (race.go). It makes no second lookup, which could return another address.
type dialer struct {
	resolver       *net.Resolver
	more           func(network, address string, c syscall.RawConn) error // asked after the guard; may be nil
	guard          *guard
	proxy          proxy // nil: connect directly
	tls            *clientTLS
	lookupTimeout  time.Duration
	connectTimeout time.Duration // for all addresses of a host together
	tlsTimeout     time.Duration
	metrics        *metrics
}

// dialGrace is how long a dial may go on after its request's deadline. So the request's own deadline passes first,
// and its error names that one.
const dialGrace = time.Second

// dial is the DialContext of an http.Transport.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	c, err := d.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// connect looks the host up and connects to it.
func (d *dialer) connect(ctx context.Context, address string) (c net.Conn, err error) {
	defer func() { d.metrics.dialled(err) }()
	if err := tripOf(ctx).dialed(); err != nil {
		return nil, err
	}
	ctx, done := withinRequest(ctx)
	defer done()
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	if err := d.guard.reserved.refresh(ctx, port); err != nil {
		return nil, phaseError{phaseLookup, err}
	}
	r := newRace(d, host, port)
	if ip, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		r.add(lookup{family: familyOf(ip.Unmap()), ips: []netip.Addr{ip}})
		return r.run(ctx)
	}
	tripOf(ctx).enter(phaseLookup)
	looking, cancel := context.WithTimeoutCause(ctx, d.lookupTimeout, timeoutError{phaseLookup.String(), d.lookupTimeout})
	defer cancel()
	r.lookUp(looking, ipv6)
	r.lookUp(looking, ipv4)
	return r.run(ctx)
}

// dialTLS is the DialTLSContext of an http.Transport. It makes the handshake itself, to know that an error came from the
// handshake: most of these errors have no type.
func (d *dialer) dialTLS(ctx context.Context, _, address string) (net.Conn, error) {
	c, err := d.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	below := newConn(c)
	ctx, done := withinRequest(ctx)
	defer done()
	tripOf(ctx).enter(phaseTLS)
	ctx, cancel := context.WithTimeoutCause(ctx, d.tlsTimeout, timeoutError{phaseTLS.String(), d.tlsTimeout})
	defer cancel()
	config, err := d.tls.configFor(address)
	if err != nil {
		_ = below.Close()
		return nil, phaseError{phaseTLS, err}
	}
	secured := tls.Client(below, config)
	err = secured.HandshakeContext(ctx)
	d.metrics.shookHands(secured.ConnectionState(), err)
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

// dialOne connects to one address.
func (d *dialer) dialOne(ctx context.Context, a netip.AddrPort, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if d.proxy != nil {
		return d.proxy.dial(ctx, a)
	}
	tripOf(ctx).enter(phaseConnect)
	direct := net.Dialer{Control: d.control}
	return direct.DialContext(ctx, "tcp", a.String())
}

// control asks the guard, and then the embedding program: nobody can allow what the guard refuses.
func (d *dialer) control(network, address string, c syscall.RawConn) error {
	err := d.guard.control(network, address, c)
	if err == nil && d.more != nil {
		err = d.more(network, address, c)
	}
	return err
}

// splitAddress returns the parts of host:port.
func splitAddress(address string) (host string, port uint16, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, blockedError{fmt.Errorf("%q is not host:port", address)}
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, blockedError{fmt.Errorf("port %q is not a number", portText)}
	}
	return host, uint16(n), nil
}
