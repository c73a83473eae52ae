package faulty

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a client's connection and the one that the proxy made for it to the server. Each direction is a [link].
type conn struct {
	proxy    *Proxy
	number   uint64
	client   net.Conn
	server   net.Conn
	toServer *link
	toClient *link
	done     chan struct{} // closed when both sockets are about to be closed

	startSeen       atomic.Bool // the client speaks Postgres
	encryptionAsked atomic.Bool // the server's next byte answers an encryption request

	mu      sync.Mutex // guards what follows, and the links' states
	ended   bool       // done is closed
	running int        // links that still forward
	session session
}

// link is one direction of a connection. One goroutine reads what arrives into a queue; another one takes it from there,
// applies the faults and forwards.
type link struct {
	conn      *conn
	direction Direction
	from, to  net.Conn
	queue     chan arrival
	framer    framer
	out       []byte  // passed by the triggers, not written yet
	current   Message // that out ends with
	deaf      bool    // a write failed because the receiver is gone; what arrives is dropped

	// Guarded by conn.mu.
	mode    verb          // pass, stall or freeze
	latency time.Duration // of a Delay
	holed   bool          // bytes were dropped, so the link stays frozen
	changed chan struct{} // closed at each change
}

// linkState is the first state of a link of a new connection.
type linkState struct {
	mode    verb
	latency time.Duration
}

// arrival is the result of a read.
type arrival struct {
	bytes []byte
	err   error // io.EOF after a FIN, something else after an RST; nothing arrives after it
	at    time.Time
}

const (
	queueMax = 64       // arrivals of a link
	readSize = 32 << 10 // bytes of an arrival, at most
)

func newConn(p *Proxy, number uint64, client, server net.Conn, toServer, toClient linkState) *conn {
	c := &conn{proxy: p, number: number, client: client, server: server, done: make(chan struct{}), running: 2}
	c.toServer = newLink(c, ToServer, client, server, toServer)
	c.toServer.framer.phase = startup
	c.toClient = newLink(c, ToClient, server, client, toClient)
	return c
}

func newLink(c *conn, d Direction, from, to net.Conn, state linkState) *link {
	return &link{
		conn: c, direction: d, from: from, to: to, queue: make(chan arrival, queueMax),
		mode: state.mode, latency: state.latency, changed: make(chan struct{}),
	}
}

// run forwards until both directions have ended or the connection is cut.
func (c *conn) run() {
	var group sync.WaitGroup
	for _, l := range []*link{c.toServer, c.toClient} {
		group.Go(l.read)
		group.Go(l.forward)
	}
	group.Wait()
}

// do applies an action.
func (c *conn) do(a Action) {
	switch a.verb {
	case cutBoth:
		c.cut(a.how)
	case cutClient:
		c.cutSide(c.client, a.how)
	case cutServer:
		c.cutSide(c.server, a.how)
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, l := range []*link{c.toServer, c.toClient} {
			if a.direction.includes(l.direction) {
				l.set(a)
			}
		}
	}
}

// cut closes both sides, and reports whether this call did it.
func (c *conn) cut(how How) bool {
	c.mu.Lock()
	first := !c.ended
	c.ended = true
	c.mu.Unlock()
	if !first {
		return false
	}
	close(c.done) // first: the links must not forward the ends that the next lines make
	closeSide(c.client, how)
	closeSide(c.server, how)
	return true
}

// cutSide closes one side and lets nothing more reach the other one. The state is set first, because the end of the closed side
// must be swallowed.
func (c *conn) cutSide(side net.Conn, how How) {
	c.mu.Lock()
	for _, l := range []*link{c.toServer, c.toClient} {
		l.holed = true
		l.set(Freeze(Both))
	}
	c.mu.Unlock()
	closeSide(side, how)
}

func closeSide(side net.Conn, how How) {
	if tcp, ok := side.(*net.TCPConn); ok && how == RST {
		_ = tcp.SetLinger(0) // fails if it is closed already
	}
	_ = side.Close()
}

// set changes the state; conn.mu is held.
func (l *link) set(a Action) {
	switch {
	case a.verb == delay:
		l.latency = a.latency
	case !l.holed:
		l.mode = a.verb
	default:
		l.mode = freeze
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// read puts what arrives into the queue until the sender ends or the connection is cut.
func (l *link) read() {
	for {
		buffer := make([]byte, readSize)
		n, err := l.from.Read(buffer)
		select {
		case l.queue <- arrival{bytes: buffer[:n], err: err, at: time.Now()}:
		case <-l.conn.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// forward takes arrivals from the queue until the sender's end was forwarded or swallowed, or the connection is cut.
func (l *link) forward() {
	defer l.leave()
	for {
		select {
		case <-l.conn.done:
			return
		case a := <-l.queue:
			l.deliver(a)
			if a.err != nil {
				l.deliverEnd(a)
				return
			}
		}
	}
}

// leave closes the connection when the other direction has ended, too.
func (l *link) leave() {
	c := l.conn
	c.mu.Lock()
	c.running--
	last := c.running == 0
	c.mu.Unlock()
	if last {
		c.cut(FIN)
	}
}

// deliver forwards what has arrived, as far as the faults allow.
func (l *link) deliver(a arrival) {
	l.framer.add(a.bytes)
	if !l.admits(a.at) {
		l.swallowRest()
		return
	}
	if l.direction == ToClient && len(a.bytes) > 0 {
		l.expect()
	}
	for {
		p, ok := l.framer.next()
		if !ok {
			l.flush(a.at)
			return
		}
		if !l.pass(a.at, p) {
			l.swallowRest()
			return
		}
	}
}

// expect sets how to read the server's next bytes. This depends on the request that they answer.
func (l *link) expect() {
	switch {
	case !l.conn.startSeen.Load():
		l.framer.phase = opaque
	case l.conn.encryptionAsked.Swap(false):
		l.framer.phase = answer
	}
}

// deliverEnd forwards the sender's end as what it was, a FIN or an RST.
func (l *link) deliverEnd(a arrival) {
	l.out = append(l.out, l.framer.rest()...)
	l.flush(a.at)
	if !l.admits(a.at) {
		l.swallowEnd()
		return
	}
	half, ok := l.to.(interface{ CloseWrite() error })
	if errors.Is(a.err, io.EOF) && ok {
		_ = half.CloseWrite() // fails if the receiver is gone
		return
	}
	closeSide(l.to, RST)
}

// pass takes a piece for writing, and does the actions of the triggers at its message. It returns false if nothing more may be
// forwarded.
func (l *link) pass(at time.Time, p piece) bool {
	if p.first {
		l.current = l.meaning(p.message)
		if !p.last {
			l.current.Payload = bytes.Clone(l.current.Payload) // its array is used again before the message ends
		}
		if !l.fire(at, true) {
			l.swallow(len(p.bytes))
			return false
		}
		if l.direction == ToServer {
			l.conn.startSeen.Store(true)
			l.conn.encryptionAsked.Store(p.kind == EncryptionRequest)
		}
	}
	l.out = append(l.out, p.bytes...)
	return !p.last || l.fire(at, false)
}

// meaning returns the message with its SQL.
func (l *link) meaning(m message) Message {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.direction == ToServer {
		return Message{Kind: m.kind, Payload: m.payload, SQL: c.session.sent(m)}
	}
	seen := Message{Kind: m.kind, Payload: m.payload, SQL: string(c.session.executed)}
	if m.kind == 'Z' {
		c.session.executed = c.session.executed[:0]
	}
	return seen
}

// fire does the actions of the triggers that fire before or after the current message. The pieces that were passed
// before are written first. It returns false if nothing more may be forwarded.
func (l *link) fire(at time.Time, before bool) bool {
	for _, armed := range l.conn.proxy.triggers() {
		if armed.trigger.Before != before || !armed.concerns(l) || !armed.message(l.conn, l.current) {
			continue
		}
		flushed := l.flush(at)
		l.conn.proxy.fire(armed, l.conn)
		if !flushed || !l.admits(at) {
			return false
		}
	}
	return true
}

// flush writes the pieces that were passed. A trigger that counts bytes splits them in two. It returns false if nothing more may
// be forwarded.
func (l *link) flush(at time.Time) bool {
	pending := l.out
	l.out = l.out[:0]
	for len(pending) > 0 {
		if !l.admits(at) {
			l.swallow(len(pending))
			return false
		}
		triggers, n := l.conn.proxy.triggers(), len(pending)
		for _, armed := range triggers {
			n = min(n, armed.bytesLeft(l, n))
		}
		l.write(pending[:n])
		pending = pending[n:]
		for _, armed := range triggers {
			if armed.bytes(l, n) {
				l.conn.proxy.fire(armed, l.conn)
			}
		}
	}
	return true
}

// write drops the bytes if the receiver is gone. The other direction forwards its end.
func (l *link) write(b []byte) {
	if l.deaf {
		return
	}
	l.conn.proxy.forwarded(l.direction, len(b)) // counted first, so that a peer that has received them finds them counted
	n, err := l.to.Write(b)
	if err != nil {
		l.deaf = true
		l.conn.proxy.forwarded(l.direction, n-len(b))
	}
}

// admits waits until bytes that arrived at this time may be forwarded, and returns false if they never may.
func (l *link) admits(at time.Time) bool {
	c := l.conn
	for {
		c.mu.Lock()
		mode, changed, latency, ended := l.mode, l.changed, l.latency, c.ended
		c.mu.Unlock()
		wait := time.Until(at.Add(latency))
		switch {
		case ended || mode == freeze:
			return false
		case mode == stall:
			select {
			case <-changed:
			case <-c.done:
			}
		case latency <= 0 || wait <= 0:
			return true
		default:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-changed:
			case <-c.done:
			}
			timer.Stop()
		}
	}
}

// swallowEnd makes a frozen link stay frozen, because its sender is gone.
func (l *link) swallowEnd() {
	l.conn.mu.Lock()
	defer l.conn.mu.Unlock()
	l.holed = true
}

func (l *link) swallowRest() { l.swallow(len(l.framer.rest())) }

// swallow records that bytes were lost. After that the link cannot forward again.
func (l *link) swallow(n int) {
	if n == 0 {
		return
	}
	l.conn.mu.Lock()
	l.holed, l.mode = true, freeze
	l.conn.mu.Unlock()
	l.conn.proxy.swallowed(n)
}
