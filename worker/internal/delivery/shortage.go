package delivery

import (
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
)

// shortages are the errors of a machine that has run out of something: files, buffers, ports or memory.
var shortages = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.ENOMEM}

// shortageError is a shortage of this machine's. It says nothing about the endpoint, and is not an attempt.
type shortageError struct{ errno syscall.Errno }

func (e shortageError) Error() string {
	return "this machine, which has run out of something: " + e.errno.Error()
}

// shortageOf returns the shortage that an error is about. A lookup's error keeps only the text of its cause, which is not
// the name server's but package syscall's.
func shortageOf(err error) (short shortageError, ok bool) {
	var dns *net.DNSError
	isDNS := errors.As(err, &dns)
	i := slices.IndexFunc(shortages, func(errno syscall.Errno) bool {
		return errors.Is(err, errno) || isDNS && strings.HasSuffix(dns.Err, errno.Error())
	})
	if i < 0 || shortages[i] == syscall.EADDRNOTAVAIL && lacksFamily(err) {
		return short, false
	}
	return shortageError{shortages[i]}, true
}

// lacksFamily reports a dial to an IPv6 address from a host that has none: it fails with EADDRNOTAVAIL, as it does without free ports.
func lacksFamily(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) {
		return false
	}
	to, ok := op.Addr.(*net.TCPAddr)
	if !ok || to.IP.To4() != nil {
		return false
	}
	addresses, err := net.InterfaceAddrs()
	return err == nil && !slices.ContainsFunc(addresses, func(a net.Addr) bool {
		own, ok := a.(*net.IPNet)
		return ok && own.IP.To4() == nil && own.IP.IsLoopback() == to.IP.IsLoopback()
	})
}
