package faulty

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards connections to a server and makes faults in them. Without faults it passes everything, also encryption
// requests with their answers, and cancel requests. Its methods may be called from several goroutines.
type Proxy struct {
	listener net.Listener
	context  context.Context // ends with Close
	cancel   context.CancelFunc
	group    sync.WaitGroup
	armed    atomic.Pointer[[]*Armed] // replaced, never changed; writers hold mu

	mu       sync.Mutex // guards what follows
	target   string
	refusing bool
	accepted uint64 // connections, and the number of the last one
	open     map[*conn]struct{}
	toServer linkState // of new connections
	toClient linkState
	counts   Counts
}

// Counts are totals since the proxy was made, except Open.
type Counts struct {
	Accepted      int   // connections of clients, those that were refused included
	Open          int   // connections now, with a side that is still open
	Refused       int   // by Refuse
	Unreachable   int   // closed because the server could not be reached
	Cut           int   // connections that an action cut, one side or both; those that Close ends are not counted
	BytesToServer int64 // forwarded
	BytesToClient int64 // forwarded
	Swallowed     int64 // bytes in both directions that were frozen, or not yet forwarded when their connection was cut
}

const (
	dialMax       = 10 * time.Second
	acceptPause   = 10 * time.Millisecond // the wait after a failed accept, as with too many open files
	anyLocalPort  = "127.0.0.1:0"
	unixDirectory = "/" // begins the address of a Unix socket
)

// NewProxy returns a proxy to the target, a host:port or the path of a Unix socket, that listens on a port of the
// loopback interface. The caller must Close it.
func NewProxy(target string) (*Proxy, error) { return NewProxyOn(anyLocalPort, target) }

// NewProxyOn is [NewProxy] on another host:port, such as the host's address in a [Netns].
func NewProxyOn(address, target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("faulty: %w", err)
	}
	p := &Proxy{listener: listener, target: target, open: make(map[*conn]struct{})}
	p.context, p.cancel = context.WithCancel(context.Background())
	p.armed.Store(new([]*Armed))
	p.group.Go(p.accept)
	return p, nil
}

// Addr returns the host:port that the proxy listens on.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close stops listening, resets every connection and returns when no goroutine of the proxy is left. Triggers that have
// not fired never will. Further calls return nil.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	for _, c := range p.connections() {
		c.cut(RST)
	}
	p.group.Wait()
	return err
}

// Counts returns what the proxy has done so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.counts
	counts.Accepted, counts.Open = int(p.accepted), len(p.open)
	return counts
}

// Do applies an action to connections and returns the number of existing ones. A connection exists once the proxy has reached
// the server for it. Cuts do not apply to new connections: see [Proxy.Refuse]. Bytes that arrived before Do may
// still be forwarded; those that a peer sends after Do are not.
func (p *Proxy) Do(scope Scope, a Action) (existing int) {
	p.mu.Lock()
	if scope != Existing {
		p.begin(a)
	}
	var open []*conn
	if scope != New {
		for c := range p.open {
			open = append(open, c)
		}
	}
	p.mu.Unlock()
	for _, c := range open {
		p.apply(c, a)
	}
	return len(open)
}

// begin makes new connections begin with the action; mu is held.
func (p *Proxy) begin(a Action) {
	states := map[Direction]*linkState{ToServer: &p.toServer, ToClient: &p.toClient}
	for direction, state := range states {
		switch {
		case a.cuts() || !a.direction.includes(direction):
		case a.verb == delay:
			state.latency = a.latency
		default:
			state.mode = a.verb
		}
	}
}

// Refuse sets whether new connections are refused. The proxy accepts them and resets them at once, so that it keeps its port: a
// client gets ECONNRESET, while a server that is down gives ECONNREFUSED.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = refuse
}

// Retarget sends new connections to another server, as a failover does behind a virtual address. Existing connections
// stay where they are.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// On arms an action that is done once, at the trigger, to the first connection that gets there.
func (p *Proxy) On(t Trigger, a Action) *Armed {
	if t.Direction == Both {
		t.Direction = ToServer
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	armed := &Armed{trigger: t, action: a, proxy: p, since: p.accepted, fired: make(chan struct{}), seen: make(map[*conn]int64)}
	list := append([]*Armed{armed}, *p.armed.Load()...)
	p.armed.Store(&list)
	return armed
}

func (p *Proxy) triggers() []*Armed { return *p.armed.Load() }

// fire does the action of a trigger that has just been reached.
func (p *Proxy) fire(armed *Armed, c *conn) {
	p.apply(c, armed.action)
	p.remove(armed)
	close(armed.fired)
}

func (p *Proxy) remove(armed *Armed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*Armed
	for _, other := range *p.armed.Load() {
		if other != armed {
			list = append(list, other)
		}
	}
	p.armed.Store(&list)
}

func (p *Proxy) apply(c *conn, a Action) {
	if a.cuts() {
		p.mu.Lock()
		p.counts.Cut++
		p.mu.Unlock()
	}
	c.do(a)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			select {
			case <-p.context.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		p.group.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	number, target, refused := p.admit()
	if refused {
		closeSide(client, RST)
		return
	}
	server, err := p.dial(target)
	if err != nil {
		p.mu.Lock()
		p.counts.Unreachable++
		p.mu.Unlock()
		closeSide(client, RST)
		return
	}
	c := p.register(number, client, server)
	if p.context.Err() != nil { // Close may have listed the connections before this one was registered
		c.cut(RST)
	}
	c.run()
	p.unregister(c)
}

// admit numbers a new connection.
func (p *Proxy) admit() (number uint64, target string, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted++
	if p.refusing {
		p.counts.Refused++
	}
	return p.accepted, p.target, p.refusing
}

func (p *Proxy) dial(target string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.context, dialMax)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(target, unixDirectory) {
		network = "unix"
	}
	return new(net.Dialer).DialContext(ctx, network, target)
}

func (p *Proxy) register(number uint64, client, server net.Conn) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := newConn(p, number, client, server, p.toServer, p.toClient)
	p.open[c] = struct{}{}
	return c
}

func (p *Proxy) unregister(c *conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	for _, armed := range p.triggers() {
		armed.forget(c)
	}
}

func (p *Proxy) connections() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*conn
	for c := range p.open {
		all = append(all, c)
	}
	return all
}

func (p *Proxy) forwarded(d Direction, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d == ToServer {
		p.counts.BytesToServer += int64(n)
	} else {
		p.counts.BytesToClient += int64(n)
	}
}

func (p *Proxy) swallowed(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Swallowed += int64(n)
}
