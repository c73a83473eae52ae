package worker

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// phase of a request, in the words of an attempt's error.
type phase int32

const (
	phaseQueue phase = iota // every connection that the endpoint may have is in use
	phaseLookup
	phaseProxy // nothing is known of the endpoint yet
	phaseConnect
	phaseTLS
	phaseAnswer
	phaseBody // never entered: the error tells
)

func (p phase) String() string {
	return [...]string{"wait for a connection", "lookup", "proxy", "connect", "TLS handshake", "wait for an answer", "response body"}[p]
}

// phaseError says in which phase of a request a fault came.
type phaseError struct {
	phase phase
	err   error
}

func (e phaseError) Error() string { return e.phase.String() + ": " + e.err.Error() }
func (e phaseError) Unwrap() error { return e.err }

// timeoutError names what took too long.
type timeoutError struct {
	what string
	max  time.Duration
}

func (e timeoutError) Error() string { return fmt.Sprintf("%s took longer than %v", e.what, e.max) }
func (timeoutError) Timeout() bool   { return true }

// trip follows one request through its phases: http.Transport says nothing of where it was when the time was up, and a
// proxy that hangs must not be the endpoint's fault. It is the request's context.
//
// The transport dials for a request and may then give it another connection that came free. What the dial enters after
// that is passed over.
type trip struct {
	context.Context
	at    atomic.Int32
	trace httptrace.ClientTrace
}

type tripKey struct{}

// withTrip returns the context to send a request with.
func withTrip(ctx context.Context) context.Context {
	t := &trip{Context: ctx}
	t.trace.GetConn = func(string) { t.at.Store(int32(phaseQueue)) }
	t.trace.GotConn = func(httptrace.GotConnInfo) { t.at.Store(int32(phaseAnswer)) }
	return httptrace.WithClientTrace(t, &t.trace)
}

// Value finds the trip from the contexts that the transport derives.
func (t *trip) Value(key any) any {
	if key == (tripKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// tripOf returns the trip of a request or of the dial for it, or nil.
func tripOf(ctx context.Context) *trip {
	t, _ := ctx.Value(tripKey{}).(*trip)
	return t
}

func (t *trip) enter(p phase) {
	if t == nil {
		return
	}
	for {
		now := t.at.Load()
		if phase(now) == phaseAnswer || t.at.CompareAndSwap(now, int32(p)) {
			return
		}
	}
}

// phase is where the request is.
func (t *trip) phase() phase { return phase(t.at.Load()) }
