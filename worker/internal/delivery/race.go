package delivery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// The numbers of Happy Eyeballs (RFC 8305). A family without addresses or with dead ones must not cost the other one more.
const (
	resolutionDelay = 50 * time.Millisecond  // how long IPv4 addresses wait for IPv6 ones (section 3)
	dialDelay       = 250 * time.Millisecond // from the start of one dial to that of the next one (section 5)
	addressesMax    = 8                      // addresses of a host that are tried
	dialsMax        = 2                      // dials in flight at once
)

// race connects to a host. It looks the addresses of both families up separately, dials what the guard allows alternately, and
// returns the first connection. One goroutine owns it.
type race struct {
	dialer *dialer
	host   string
	port   uint16

	done     chan struct{}       // closed at the end: what comes later is thrown away
	answers  chan lookup         // from the lookups
	dialed   chan dialResult     // from the dials
	lookups  int                 // in flight
	dials    int                 // in flight
	waiting  [2][]netip.AddrPort // by family: allowed, and not yet dialled
	turn     family              // whose address is dialled next
	tried    int                 // addresses that were dialled
	nextDial time.Time           // no dial starts before
	until    time.Time           // when the time for all dials is up
	faults   raceFaults
}

func newRace(d *dialer, host string, port uint16) *race {
	return &race{dialer: d, host: host, port: port, done: make(chan struct{}), answers: make(chan lookup), dialed: make(chan dialResult)}
}

// family is an index: IPv6 comes first (RFC 8305, section 4).
type family int

const (
	ipv6 family = iota
	ipv4
)

func familyOf(ip netip.Addr) family {
	if ip.Is4() {
		return ipv4
	}
	return ipv6
}

type lookup struct {
	family family
	ips    []netip.Addr
	err    error
}

type dialResult struct {
	conn net.Conn
	err  error
}

// run returns the first connection, or why there is none.
func (r *race) run(ctx context.Context) (net.Conn, error) {
	defer close(r.done)
	dialing, cancel := context.WithCancel(ctx) // ends the dials that lost
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if r.dialable() && !time.Now().Before(r.nextDial) {
			r.dial(dialing)
			continue
		}
		if r.lookups == 0 && r.dials == 0 && !r.dialable() {
			return nil, r.faults.verdict(ctx, r)
		}
		var later <-chan time.Time
		if r.dialable() {
			timer.Reset(time.Until(r.nextDial))
			later = timer.C
		}
		select { // lookups and dials end with ctx too
		case l := <-r.answers:
			r.lookups--
			r.add(l)
		case d := <-r.dialed:
			r.dials--
			if d.err == nil {
				return d.conn, nil
			}
			r.faults.dial(d.err)
			r.nextDial = time.Time{} // at once
		case <-later:
		}
	}
}

// dialable reports whether there is an address to dial and room for its dial.
func (r *race) dialable() bool {
	return len(r.waiting[ipv6])+len(r.waiting[ipv4]) > 0 && r.dials < dialsMax && r.tried < addressesMax && !r.late()
}

// late reports whether the time for all dials, which begins with the first one, is up.
func (r *race) late() bool { return r.tried > 0 && !time.Now().Before(r.until) }

// lookUp asks for the addresses of one family.
func (r *race) lookUp(ctx context.Context, f family) {
	r.lookups++
	go func() {
		l := lookup{family: f}
		l.ips, l.err = r.dialer.resolver.LookupNetIP(ctx, [...]string{"ip6", "ip4"}[f], r.host)
		var ofOther *net.AddrError // the name has addresses, and none of this family
		switch {
		case errors.As(l.err, &ofOther):
			l.err = nil
		case l.err != nil && ctx.Err() != nil:
			l.err = context.Cause(ctx)
		}
		select {
		case r.answers <- l:
		case <-r.done:
		}
	}()
}

// add takes the addresses of a lookup that the guard allows. While only IPv4 addresses are there, they wait a moment for
// those of IPv6.
func (r *race) add(l lookup) {
	if l.err != nil {
		r.faults.lookup(l.err)
	}
	for _, ip := range l.ips {
		a := netip.AddrPortFrom(ip.Unmap(), r.port)
		if err := r.dialer.guard.check(a); err != nil {
			r.faults.blocked = err
			continue
		}
		f := familyOf(a.Addr())
		if len(r.waiting[f]) < addressesMax {
			r.waiting[f] = append(r.waiting[f], a)
		}
	}
	switch {
	case r.tried > 0:
	case l.family == ipv4 && r.lookups > 0:
		r.nextDial = time.Now().Add(resolutionDelay)
	default:
		r.nextDial = time.Time{}
	}
}

// dial starts the next dial. Its time is a part of the total, so that all addresses have their turn.
func (r *race) dial(ctx context.Context) {
	if len(r.waiting[r.turn]) == 0 {
		r.turn = 1 - r.turn
	}
	a := r.waiting[r.turn][0]
	r.waiting[r.turn] = r.waiting[r.turn][1:]
	r.turn = 1 - r.turn
	if r.tried == 0 {
		r.until = time.Now().Add(r.dialer.connectTimeout)
	}
	r.tried++
	r.dials++
	r.nextDial = time.Now().Add(dialDelay)
	later := min(len(r.waiting[ipv6])+len(r.waiting[ipv4]), addressesMax-r.tried)
	within := time.Until(r.until) / time.Duration(1+later/dialsMax)
	go func() {
		conn, err := r.dialer.dialOne(ctx, a, within)
		select {
		case r.dialed <- dialResult{conn, err}:
		case <-r.done:
			if err == nil {
				_ = conn.Close()
			}
		}
	}()
}

// raceFaults are the errors so far.
type raceFaults struct {
	lookedUp  error // of a lookup: the one that says more than that there is no such name
	blocked   error
	first     error // of the dials
	last      error
	proxyFail proxyError
}

func (f *raceFaults) lookup(err error) {
	var dns *net.DNSError
	if f.lookedUp == nil || !errors.As(err, &dns) || !dns.IsNotFound {
		f.lookedUp = err
	}
}

func (f *raceFaults) dial(err error) {
	errors.As(err, &f.proxyFail)
	f.last = err
	if _, short := shortageOf(f.first); f.first == nil || short { // an endpoint's own fault says more
		f.first = err
	}
}

// verdict is the error of a race that nobody won.
func (f *raceFaults) verdict(ctx context.Context, r *race) error {
	if r.tried == 0 {
		var dns *net.DNSError
		switch {
		case f.lookedUp == nil && f.blocked == nil && ctx.Err() != nil:
			return phaseError{phaseLookup, context.Cause(ctx)}
		case f.lookedUp == nil && f.blocked == nil:
			return phaseError{phaseLookup, &net.DNSError{Err: "no addresses", Name: r.host, IsNotFound: true}}
		case f.blocked != nil && (f.lookedUp == nil || errors.As(f.lookedUp, &dns) && dns.IsNotFound):
			return f.blocked
		}
		return phaseError{phaseLookup, f.lookedUp}
	}
	switch {
	case f.proxyFail.err != nil: // even when the time is up: a proxy that fails says nothing about the endpoint
		return f.proxyFail
	case ctx.Err() != nil:
		return phaseError{phaseConnect, context.Cause(ctx)}
	case r.late(), isTimeout(f.last):
		return phaseError{phaseConnect, timeoutError{phaseConnect.String(), r.dialer.connectTimeout}}
	}
	return phaseError{phaseConnect, f.first}
}
