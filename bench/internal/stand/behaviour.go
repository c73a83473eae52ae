package stand

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Behaviour is how some endpoints answer. The zero value answers 200 at once, as all endpoints do at first.
// net/rpc needs the exported names.
type Behaviour struct {
	From, To    int           // endpoints by index, in the order of their URLs; To is exclusive
	Hang        bool          // never answers; the request ends when the client gives up
	Status      int           // the status of every answer; its message counts as not arrived. 0 for 200
	RetryAfter  int           // seconds, in the header of that answer; 0 for none
	FailPercent int           // the share of requests answered 500, at random; their messages count as not arrived
	SlowPercent int           // the share of the others answered 200 after Slow; their messages arrive at once
	Slow        time.Duration // the least delay
	SlowSpread  time.Duration // the most random delay on top, so that requests that began together end apart
}

func (b Behaviour) check(endpoints int) error {
	switch {
	case b.From < 0 || b.From >= b.To || b.To > endpoints:
		return fmt.Errorf("a behaviour of endpoints %d to %d; there are %d, counted from 0, and the second is exclusive", b.From, b.To, endpoints)
	case b.Status != 0 && (b.Status < 200 || b.Status > 599) || b.RetryAfter < 0:
		return fmt.Errorf("a status of %d and a Retry-After of %d s; want 200 to 599 and no less than 0", b.Status, b.RetryAfter)
	case min(b.FailPercent, b.SlowPercent) < 0 || max(b.FailPercent, b.SlowPercent) > 100:
		return fmt.Errorf("%d %% failing and %d %% slow; want 0 to 100", b.FailPercent, b.SlowPercent)
	case b.SlowPercent > 0 && b.Slow <= 0, b.SlowSpread < 0:
		return fmt.Errorf("%d %% of answers are %v and up to %v late; want a delay above 0 and a spread of 0 or more", b.SlowPercent, b.Slow, b.SlowSpread)
	}
	return nil
}

// behaviours of one trial. While all endpoints are ordinary, they cost each request one load of a pointer.
type behaviours struct {
	by      atomic.Pointer[[]Behaviour] // by endpoint; nil while all are ordinary
	refused atomic.Int64
	hung    gauge
}

// gauge is a number of requests now, and the most at once.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) add() {
	n := g.now.Add(1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
	}
}

func (g *gauge) remove() { g.now.Add(-1) }

// set replaces the behaviour of the endpoints that it names. Requests that already hang still hang.
func (b *behaviours) set(one Behaviour, endpoints int) error {
	if err := one.check(endpoints); err != nil {
		return err
	}
	by := make([]Behaviour, endpoints)
	if before := b.by.Load(); before != nil {
		copy(by, *before) // endpoints may have been opened since: those are ordinary
	}
	for i := one.From; i < one.To; i++ {
		by[i] = one
	}
	b.by.Store(&by)
	return nil
}

// meet lets a request meet its endpoint's behaviour. It reports whether its message arrived, and how long the answer
// has to wait then. If the message did not arrive, meet has answered the request.
func (b *behaviours) meet(w http.ResponseWriter, req *http.Request) (arrived bool, late time.Duration) {
	by := b.by.Load()
	if by == nil {
		return true, 0
	}
	endpoint := endpointOf(req)
	if endpoint >= len(*by) {
		return true, 0
	}
	one := (*by)[endpoint]
	switch {
	case one.Hang:
		b.hung.add()
		<-req.Context().Done()
		b.hung.remove()
		panic(http.ErrAbortHandler) // nothing is answered, not even to a client that would still read it
	case one.Status != 0:
		b.refused.Add(1)
		if one.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(one.RetryAfter))
		}
		http.Error(w, "told to answer so", one.Status)
		return false, 0
	case one.FailPercent > 0 && rand.IntN(100) < one.FailPercent:
		b.refused.Add(1)
		http.Error(w, "told to fail", http.StatusInternalServerError)
		return false, 0
	case one.SlowPercent > 0 && rand.IntN(100) < one.SlowPercent:
		return true, one.Slow + rand.N(one.SlowSpread+1)
	}
	return true, 0
}

// sleep ends early when the client gives up.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// endpointListener makes the requests of a listener know which endpoint it is.
type endpointListener struct {
	net.Listener

	endpoint int
}

type endpointKey struct{}

// endpointContext is a server's BaseContext.
func endpointContext(l net.Listener) context.Context {
	return context.WithValue(context.Background(), endpointKey{}, l.(endpointListener).endpoint)
}

// endpointOf is the index of a request's endpoint: of its listener, or of its path at a listener that all paths share.
func endpointOf(req *http.Request) int {
	endpoint := req.Context().Value(endpointKey{}).(int)
	if endpoint != byPath {
		return endpoint
	}
	n, err := strconv.Atoi(strings.TrimPrefix(req.URL.Path, sharedPath))
	if err != nil || n < 0 {
		return math.MaxInt // an index without a behaviour: it is ordinary
	}
	return n
}

// byPath stands for an endpoint where the path says which one it is: sharedPath and its index.
const (
	byPath     = -1
	sharedPath = "/hook/"
)

// Behave changes how some endpoints answer, until the next trial begins.
func (b *Inbox) Behave(one Behaviour, _ *struct{}) error {
	a := b.current.Load()
	if a == nil {
		return errors.New("no trial has begun; expect one first")
	}
	return a.behaviours.set(one, max(len(b.urls), b.shared))
}

// Behave changes how some endpoints answer, from now on and until the next trial is expected. A later call for the same endpoint
// replaces an earlier one; the zero value makes the endpoint ordinary again.
func (r *Receiver) Behave(b Behaviour) error {
	return r.call("Inbox.Behave", b, &struct{}{})
}
