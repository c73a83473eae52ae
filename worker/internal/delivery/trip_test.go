package delivery

import (
	"context"
	"net/http/httptrace"
	"testing"
)

// The phases of a dial count until the request has a connection. They count again if the first connection was closed and the
// transport looks for another one.
func TestATripIgnoresADialOnceTheRequestHasAConnection(t *testing.T) {
	t.Parallel()
	trip := newTrip(t.Context(), testPatience)
	defer trip.stop()
	ctx := trip.traced()
	trace := httptrace.ContextClientTrace(ctx)
	dialCtx := context.WithoutCancel(ctx) // the transport derives the context of a dial
	want := func(p phase) {
		t.Helper()
		if got := tripOf(ctx).phase(); got != p {
			t.Errorf("the request is in the phase %q, want %q", got, p)
		}
	}
	want(phaseQueue)
	tripOf(dialCtx).enter(phaseLookup)
	want(phaseLookup)
	trace.GotConn(httptrace.GotConnInfo{})
	want(phaseAnswer)
	tripOf(dialCtx).enter(phaseConnect)
	want(phaseAnswer)
	trace.GetConn("")
	want(phaseQueue)
	tripOf(dialCtx).enter(phaseConnect)
	want(phaseConnect)
	tripOf(t.Context()).enter(phaseConnect) // no trip: nothing happens
}
