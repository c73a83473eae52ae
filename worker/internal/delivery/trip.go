package delivery

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// phase is a phase of a request. Its name appears in the error of an attempt.
type phase int32

const (
	phaseQueue   phase = iota // waits because every connection that the endpoint may have is in use
	phaseLookup               // looks the host up
	phaseProxy                // talks to the proxy, and knows nothing about the endpoint yet
	phaseConnect              // connects to an address of the host
	phaseTLS                  // makes the TLS handshake
	phaseAnswer               // has a connection, and waits for the answer's headers
	phaseBody                 // reads the body. A trip never enters this phase: Answer.read puts it into the error
)

func (p phase) String() string {
	return [...]string{"wait for a connection", "lookup", "proxy", "connect", "TLS handshake", "wait for an answer", "response body"}[p]
}

// phaseError is an error together with the phase in which it came.
type phaseError struct {
	phase phase
	err   error
}

func (e phaseError) Error() string { return e.phase.String() + ": " + e.err.Error() }
func (e phaseError) Unwrap() error { return e.err }

// timeoutError names the phase that took too long.
type timeoutError struct {
	what string
	max  time.Duration
}

func (e timeoutError) Error() string { return fmt.Sprintf("%s took longer than %v", e.what, e.max) }
func (timeoutError) Timeout() bool   { return true }

// trip follows one request through its phases, because http.Transport does not say in which phase a request was when its
// time was up, and a proxy that hangs must not count against the endpoint. It also counts the request's connections. A
// trip is the request's context.
//
// The transport may dial for a request and then give it another connection that has become idle. The request is then in
// phaseAnswer, and what the dial enters afterwards is ignored.
type trip struct {
	context.Context
	end      context.CancelCauseFunc
	timer    *time.Timer // ends the request
	deadline time.Time
	metrics  *metrics
	at       atomic.Int32
	trace    httptrace.ClientTrace

	dials    atomic.Int32 // dials made for the request
	answered atomic.Bool  // the first byte of an answer has come

	// The connections that the request was given. The transport reports them on the request's own goroutine.
	given  int    // how many counted
	conn   *conn  // the last one; nil while there is none
	use    uint64 // which use of conn the request is
	reused bool   // conn had carried a request before
}

type tripKey struct{}

// newTrip returns the context of a request with this timeout, and of every connection that is tried for it. The
// caller calls stop once the attempt has ended.
func newTrip(parent context.Context, timeout time.Duration) *trip {
	t := &trip{deadline: time.Now().Add(timeout)}
	t.Context, t.end = context.WithCancelCause(parent)
	t.timer = time.AfterFunc(timeout, func() { t.end(timeoutError{"the request", timeout}) })
	t.trace.GetConn = func(string) { t.at.Store(int32(phaseQueue)) }
	t.trace.GotConn = t.gotConn
	t.trace.GotFirstResponseByte = func() { t.answered.Store(true) }
	return t
}

func (t *trip) stop() {
	t.timer.Stop()
	t.end(nil)
}

// traced is the context to send the request with.
func (t *trip) traced() context.Context { return httptrace.WithClientTrace(t, &t.trace) }

// Deadline is what a dial needs: the transport hides the request's deadline from the contexts of dials.
func (t *trip) Deadline() (time.Time, bool) { return t.deadline, true }

// Value lets the contexts that the transport derives from a trip find it.
func (t *trip) Value(key any) any {
	if key == (tripKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// tripOf returns the trip of a request, or of the dial for it. It is nil when there is none.
func tripOf(ctx context.Context) *trip {
	t, _ := ctx.Value(tripKey{}).(*trip)
	return t
}

// enter records that the request is now in a phase, unless it already has a connection. It does nothing on a nil trip.
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

// phase is the phase in which the request is now.
func (t *trip) phase() phase { return phase(t.at.Load()) }
