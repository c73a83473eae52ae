package faulty

import (
	"bytes"
	"strings"
	"sync"
)

// Trigger is a place in the bytes of a connection. Each connection has its own counts, which begin when the trigger is armed,
// or with the connection. In an encrypted connection, a trigger can count bytes, but not messages.
type Trigger struct {
	// Scope says which connections are watched. Default: all.
	Scope Scope
	// Direction is ToServer or ToClient. Default: ToServer.
	Direction Direction
	// Bytes, if above zero, makes the trigger fire when exactly this many bytes were forwarded. The fields below are then
	// ignored.
	Bytes int64
	// Kind is the type byte of the messages to count. Default: 0, every message.
	Kind byte
	// Match says whether a message counts. It must not block. Default: nil, each one does.
	Match func(Message) bool
	// Nth is the number of the message that fires the trigger. Default: 0, which means the first.
	Nth int
	// Before fires before a byte of that message is forwarded. Default: false, so that it fires when all of it was forwarded.
	Before bool
}

// AfterBytes fires when n bytes were forwarded.
func AfterBytes(d Direction, n int64) Trigger { return Trigger{Direction: d, Bytes: n} }

// AfterMessage fires when the client's n-th message of a kind was forwarded: with 'E' and 2, it fires in a batch after the
// second statement.
func AfterMessage(kind byte, n int) Trigger { return Trigger{Direction: ToServer, Kind: kind, Nth: n} }

// AfterStatement fires when the n-th execution of a statement that contains the text was forwarded, by simple Query or
// by Execute.
func AfterStatement(text string, n int) Trigger {
	return Trigger{Direction: ToServer, Nth: n, Match: func(m Message) bool {
		return (m.Kind == 'Q' || m.Kind == 'E') && strings.Contains(m.SQL, text)
	}}
}

// BeforeCommitAnswer fires before the server's CommandComplete for COMMIT is forwarded: the transaction is committed,
// and the client does not know.
func BeforeCommitAnswer() Trigger {
	return Trigger{Direction: ToClient, Kind: 'C', Before: true, Match: func(m Message) bool {
		return bytes.Equal(m.Payload, []byte("COMMIT\x00"))
	}}
}

// BeforeReady fires before the ReadyForQuery that ends a round trip in which a statement with the text was executed. A
// round trip without BEGIN and COMMIT is committed by then. The empty text matches every statement.
func BeforeReady(text string) Trigger {
	return Trigger{Direction: ToClient, Kind: 'Z', Before: true, Match: func(m Message) bool {
		return m.SQL != "" && strings.Contains(m.SQL, text)
	}}
}

// Armed is a trigger that waits. It fires once, at the first connection that reaches its place.
type Armed struct {
	trigger Trigger
	action  Action
	proxy   *Proxy
	since   uint64 // connections up to this number existed when it was armed
	fired   chan struct{}

	mu      sync.Mutex
	over    bool            // it cannot fire any more: it has fired, or it was disarmed
	reached bool            // it has fired, or is about to
	seen    map[*conn]int64 // messages or bytes, by connection
}

// Fired is closed once the action has been done. It stays open if the trigger is disarmed first.
func (a *Armed) Fired() <-chan struct{} { return a.fired }

// Disarm prevents the trigger from firing, and reports whether it has fired already.
func (a *Armed) Disarm() (fired bool) {
	a.mu.Lock()
	a.over = true
	fired = a.reached
	a.mu.Unlock()
	a.proxy.remove(a)
	return fired
}

// forget drops the count of a connection that has ended.
func (a *Armed) forget(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.seen, c)
}

func (a *Armed) concerns(l *link) bool {
	if a.trigger.Direction != l.direction {
		return false
	}
	switch a.trigger.Scope {
	case Existing:
		return l.conn.number <= a.since
	case New:
		return l.conn.number > a.since
	}
	return true
}

// message counts a message and reports whether the trigger fires at it.
func (a *Armed) message(c *conn, m Message) bool {
	t := a.trigger
	if t.Bytes > 0 || t.Kind != 0 && t.Kind != m.Kind || t.Match != nil && !t.Match(m) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return false
	}
	a.seen[c]++
	a.reached = a.seen[c] >= int64(max(t.Nth, 1))
	a.over = a.reached
	return a.reached
}

// bytesLeft returns how many of n bytes may be forwarded before the trigger fires.
func (a *Armed) bytesLeft(l *link, n int) int {
	if a.trigger.Bytes <= 0 || !a.concerns(l) {
		return n
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return n
	}
	return int(min(int64(n), a.trigger.Bytes-a.seen[l.conn]))
}

// bytes counts bytes that were forwarded and reports whether the trigger fires after them.
func (a *Armed) bytes(l *link, n int) bool {
	if a.trigger.Bytes <= 0 || !a.concerns(l) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return false
	}
	a.seen[l.conn] += int64(n)
	a.reached = a.seen[l.conn] >= a.trigger.Bytes
	a.over = a.reached
	return a.reached
}
