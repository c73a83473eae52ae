package delivery

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Service is a host and port that the worker itself depends on. Nothing is delivered to it, whatever AllowedCIDRs says: a
// URL that named it would speak HTTP to it from an address that it trusts.
type Service struct {
	What string // "the database", for the error
	Host string // a name or an address
	Port uint16
}

// reserved knows the addresses of services. A name is looked up when an endpoint has the port of its service, and again
// after a while. Its earlier addresses stay reserved.
type reserved struct {
	resolver *net.Resolver
	services []Service

	mu    sync.Mutex
	known map[int][]netip.Addr // by the index of the service, the newest last
	next  map[int]time.Time    // no lookup before
}

const (
	reservedAgain = 30 * time.Second // from one lookup of a service to the next
	reservedMax   = 64               // addresses of a service that are remembered
)

func newReserved(resolver *net.Resolver, services []Service) *reserved {
	if len(services) == 0 {
		return nil
	}
	return &reserved{resolver: resolver, services: services, known: map[int][]netip.Addr{}, next: map[int]time.Time{}}
}

// refresh looks up the services of a port. It fails when the addresses of one of them were never known.
func (r *reserved) refresh(ctx context.Context, port uint16) error {
	if r == nil {
		return nil
	}
	for i, s := range r.services {
		if s.Port != port {
			continue
		}
		if err := r.lookUp(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (r *reserved) lookUp(ctx context.Context, i int) error {
	r.mu.Lock()
	known, due := len(r.known[i]) > 0, !time.Now().Before(r.next[i])
	r.mu.Unlock()
	if !due {
		return nil
	}
	ips, err := r.addressesOf(ctx, r.services[i].Host)
	if err != nil && !known {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next[i] = time.Now().Add(reservedAgain)
	for _, ip := range ips {
		if ip = ip.WithZone("").Unmap(); !slices.Contains(r.known[i], ip) {
			r.known[i] = append(r.known[i], ip)
		}
	}
	if over := len(r.known[i]) - reservedMax; over > 0 {
		r.known[i] = slices.Delete(r.known[i], 0, over)
	}
	return nil
}

func (r *reserved) addressesOf(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{ip}, nil
	}
	return r.resolver.LookupNetIP(ctx, "ip", host)
}

// find returns the service that is reached at this address. One on this host is reached at any of the host's addresses.
func (r *reserved) find(ip netip.Addr, port uint16) (what string, ok bool) {
	if r == nil {
		return "", false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.services {
		if s.Port != port {
			continue
		}
		here := slices.ContainsFunc(r.known[i], isOfThisHost)
		if slices.Contains(r.known[i], ip) || here && isOfThisHost(ip) {
			return s.What, true
		}
	}
	return "", false
}
