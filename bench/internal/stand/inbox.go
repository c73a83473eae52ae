package stand

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// ReceiverCommand as the first argument makes this program the receiver: a process of its own, so that what it costs to
// receive is not mixed with what it costs to send, and is the same for every contender.
const ReceiverCommand = "receive"

// Inbox is the receiver. It answers 200 to everything, unless another [Behaviour] is set, and remembers when each
// message first came. Its parent calls it over a pipe; net/rpc needs exported names for that. The parent
// makes one call at a time.
type Inbox struct {
	server  *http.Server
	far     *http.Server // of the far endpoints; nil without any
	urls    []string
	shared  int // how many paths were opened at one origin
	origin  string
	hostile []net.Listener
	current atomic.Pointer[arrivals]
}

// arrivals of one trial. Requests of an earlier one that come late are not counted.
type arrivals struct {
	trial      uint32
	awaited    int            // the messages before this number are waited for
	at         []atomic.Int64 // by the message's number: Unix time in nanoseconds; 0 until it came
	distinct   atomic.Int64   // of the awaited ones
	requests   atomic.Int64
	conns      atomic.Int64
	all        chan struct{} // closed when every awaited message came
	behaviours behaviours
}

// ServeReceiver runs the receiver until its parent closes the pipe or is gone. It returns the exit status.
func ServeReceiver() int {
	if err := serveInbox(pipe{os.Stdin, os.Stdout}); err != nil {
		fmt.Fprintf(os.Stderr, "bench: receiver: %v\n", err)
		return 1
	}
	return 0
}

// serveInbox answers calls and requests until the connection of the calls ends.
func serveInbox(conn io.ReadWriteCloser) error {
	box := &Inbox{}
	box.server = &http.Server{Handler: box, BaseContext: endpointContext, ConnState: func(_ net.Conn, state http.ConnState) {
		if a := box.current.Load(); a != nil && state == http.StateNew {
			a.conns.Add(1)
		}
	}}
	calls := rpc.NewServer()
	if err := calls.Register(box); err != nil {
		return err
	}
	calls.ServeConn(conn)
	for _, l := range box.hostile {
		_ = l.Close()
	}
	if box.far != nil {
		_ = box.far.Close()
	}
	return box.server.Close()
}

// pipe makes one connection of a reading and a writing end.
type pipe struct {
	io.ReadCloser
	io.Writer
}

// ServeHTTP takes the time first. What is not one of this trial's messages is refused.
func (b *Inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now().UnixNano()
	var body [bodyBytes]byte
	_, err := io.ReadFull(req.Body, body[:])
	trial, n, ok := parseBody(body[:])
	a := b.current.Load()
	if err != nil || !ok || a == nil || trial != a.trial || n >= len(a.at) {
		http.Error(w, "not a message of this trial", http.StatusBadRequest)
		return
	}
	arrived, late := a.behaviours.meet(w, req)
	if !arrived {
		return
	}
	a.requests.Add(1)
	if a.at[n].CompareAndSwap(0, now) && n < a.awaited && a.distinct.Add(1) == int64(a.awaited) {
		close(a.all)
	}
	if late > 0 {
		sleep(req.Context(), late)
	}
}

// Open replies with the URLs of n endpoints, each a port of its own on loopback.
func (b *Inbox) Open(n int, urls *[]string) error {
	for len(b.urls) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		endpoint := endpointListener{Listener: l, endpoint: len(b.urls)}
		go func() { _ = b.server.Serve(endpoint) }() // until the server is closed
		b.urls = append(b.urls, "http://"+l.Addr().String()+"/hook")
	}
	*urls = b.urls[:n]
	return nil
}

// OpenShared replies with n URLs at one origin, each a path of its own.
func (b *Inbox) OpenShared(n int, urls *[]string) error {
	if b.origin == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go func() { _ = b.server.Serve(endpointListener{Listener: l, endpoint: byPath}) }() // until the server is closed
		b.origin = "http://" + l.Addr().String()
	}
	b.shared = max(b.shared, n)
	for i := range n {
		*urls = append(*urls, b.origin+sharedPath+strconv.Itoa(i))
	}
	return nil
}

// Expectation announces a trial.
type Expectation struct {
	Trial    uint32
	Messages int
	Awaited  int // how many of the first messages are waited for; the others may come or not
}

// Expect begins a trial: only its messages are counted from now on.
func (b *Inbox) Expect(e Expectation, _ *struct{}) error {
	if e.Awaited < 1 || e.Awaited > e.Messages {
		return fmt.Errorf("%d of %d messages are waited for; want at least one, and no more than there are", e.Awaited, e.Messages)
	}
	b.current.Store(&arrivals{
		trial: e.Trial, awaited: e.Awaited, at: make([]atomic.Int64, e.Messages), all: make(chan struct{}),
	})
	return nil
}

// Progress counts what came so far.
type Progress struct {
	Distinct            int   // awaited messages that arrived
	Requests            int   // that brought a message, repeats included
	Refused             int   // requests that were answered 500 on purpose
	Hanging, HangingMax int   // requests that hang now, and the most that did at once
	Conns               int   // accepted
	First               int64 // arrival of the first message, in Unix nanoseconds; 0 for none
}

// Await replies when every awaited message came, or when the time is up.
func (b *Inbox) Await(patience time.Duration, p *Progress) error {
	a := b.current.Load()
	select {
	case <-a.all:
	case <-time.After(patience):
	}
	p.Distinct, p.Requests, p.Conns = int(a.distinct.Load()), int(a.requests.Load()), int(a.conns.Load())
	p.Refused = int(a.behaviours.refused.Load())
	p.Hanging, p.HangingMax = int(a.behaviours.hung.now.Load()), int(a.behaviours.hung.most.Load())
	for i := range a.awaited {
		if at := a.at[i].Load(); at != 0 && (p.First == 0 || at < p.First) {
			p.First = at
		}
	}
	return nil
}

// Arrivals replies when each message came first, in Unix nanoseconds, 0 for one that did not.
func (b *Inbox) Arrivals(_ struct{}, at *[]int64) error {
	a := b.current.Load()
	*at = make([]int64, len(a.at))
	for i := range a.at {
		(*at)[i] = a.at[i].Load()
	}
	return nil
}
