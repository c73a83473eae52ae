package delivery

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// nameserver is the DNS server of one test. It can give a different answer to each question.
type nameserver struct {
	t      testing.TB
	conn   net.PacketConn
	answer func(name string, nth int) []netip.Addr // if it returns nil, there is no such name; a nil func gives no answer
	silent atomic.Int32                            // the kind of question that gets no answer

	mu      sync.Mutex
	queries map[question]int
	owed    []func() // answers that it did not send
}

type question struct {
	name string // without the final dot
	kind uint16
}

const (
	dnsA    = 1
	dnsAAAA = 28
)

func newNameserver(t testing.TB, answer func(name string, nth int) []netip.Addr) *nameserver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameserver{t: t, conn: conn, answer: answer, queries: map[question]int{}}
	var serving sync.WaitGroup
	serving.Go(s.serve)
	t.Cleanup(func() {
		s.mu.Lock()
		for _, answer := range s.owed { // Go's resolver waits for an answer, or 5 s, even when the lookup was cancelled
			answer()
		}
		s.mu.Unlock()
		_ = conn.Close()
		serving.Wait()
	})
	return s
}

// always returns an answer function that answers every question with the same addresses.
func always(addresses ...string) func(string, int) []netip.Addr {
	return func(string, int) []netip.Addr { return parseAddrs(addresses...) }
}

func parseAddrs(texts ...string) (addresses []netip.Addr) {
	for _, text := range texts {
		addresses = append(addresses, netip.MustParseAddr(text))
	}
	return addresses
}

func (s *nameserver) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// asked returns how many questions for the IPv4 addresses of a name it got.
func (s *nameserver) asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries[question{name, dnsA}]
}

func (s *nameserver) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		response := s.respond(buffer[:n])
		send := func() { _, _ = s.conn.WriteTo(response, from) }
		if s.answer != nil && kindOf(buffer[:n]) != uint16(s.silent.Load()) {
			send()
			continue
		}
		s.mu.Lock()
		s.owed = append(s.owed, send)
		s.mu.Unlock()
	}
}

// kindOf returns the kind of a message's question.
func kindOf(query []byte) uint16 {
	at := 12
	for query[at] != 0 {
		at += 1 + int(query[at])
	}
	return binary.BigEndian.Uint16(query[at+1:])
}

// respond answers a message of one question (RFC 1035, section 4).
func (s *nameserver) respond(query []byte) []byte {
	const headBytes = 12
	at, labels := headBytes, []string(nil)
	for query[at] != 0 {
		n := int(query[at])
		labels = append(labels, string(query[at+1:at+1+n]))
		at += 1 + n
	}
	q := question{strings.ToLower(strings.Join(labels, ".")), binary.BigEndian.Uint16(query[at+1:])}
	end := at + 5 // the root label, type and class
	s.mu.Lock()
	nth := s.queries[q]
	s.queries[q]++
	s.mu.Unlock()
	var addresses []netip.Addr
	if s.answer != nil {
		addresses = s.answer(q.name, nth)
	}
	response := append([]byte(nil), query[:2]...)
	response = append(response, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	response = append(response, query[headBytes:end]...)
	if addresses == nil {
		response[3] |= 3 // no such name
	}
	for _, a := range addresses {
		if a.Is4() != (q.kind == dnsA) || a.Is6() != (q.kind == dnsAAAA) {
			continue
		}
		response[7]++
		response = append(response, 0xc0, headBytes, 0, byte(q.kind), 0, 1, 0, 0, 0, 0, 0, byte(len(a.AsSlice())))
		response = append(response, a.AsSlice()...)
	}
	return response
}
