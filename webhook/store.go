package webhook

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// State is what a [Store] knows of a message.
type State int

// The states of a claimed message.
const (
	First      State = iota + 1 // not processed, and now claimed by the caller
	InProgress                  // claimed by another caller
	Duplicate                   // processed
)

// Claim is the answer of [Store.Claim], and an argument of [Store.Finish].
type Claim struct {
	ID    string        // the webhook-id
	State State         // who may handle the message
	Token string        // unique for each claim of the same id; only with First
	Lease time.Duration // the claim holds at least this long after the call of Claim; only with First, 0 for ever
}

// Store remembers by webhook-id which messages were processed. Ids are unique per sender: a store must not be shared
// between handlers of different senders.
//
// The contract, for concurrent callers in one process or many, as far as the store reaches:
//
//   - Claim returns First to one caller, and to no other until that claim is finished or its lease has ended. A Claim that
//     fails, for example because its context ended, may still have claimed; then the lease ends the claim.
//   - Finish with processed records the id for good: from then on Claim returns Duplicate. It does so even when the lease
//     has ended and another caller has the claim now, because the message was processed.
//   - Finish without processed gives the claim back, so that the next Claim returns First. It does nothing when the
//     claim is no longer the caller's, or the id was recorded meanwhile.
//
// With a state other than First, Finish is not called.
type Store interface {
	Claim(ctx context.Context, id string) (Claim, error)
	Finish(ctx context.Context, claim Claim, processed bool) error
}

// DefaultLease is how long a claim holds: longer than a sender waits for an answer (15 to 30 s by the specification), so that
// no repeat is handled while a slow handler is still running.
const DefaultLease = time.Minute

// finishMax bounds the wait for the store after the handler has ended.
const finishMax = 5 * time.Second

// once calls the next handler unless the id was processed before.
//
// The context of the handler ends with the claim, so a handler that respects it never runs beside its own repeat. Its
// answer goes to the sender at once; the store records the end when the handler has returned. A handler has not processed the
// message when it panics, answers other than 2xx, or returns without an answer after its context has ended.
func (h *Handler) once(w http.ResponseWriter, r *http.Request, id string) {
	began := time.Now()
	claim, err := h.config.Store.Claim(r.Context(), id)
	switch {
	case err != nil:
		h.refuse(w, r, fmt.Errorf("%w: %w", ErrStore, err))
		return
	case claim.State == Duplicate:
		w.WriteHeader(http.StatusNoContent)
		return
	case claim.State != First:
		h.refuse(w, r, ErrInProgress)
		return
	}
	ctx := r.Context()
	if claim.Lease > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, began.Add(claim.Lease))
		defer cancel()
	}
	answer := &answer{ResponseWriter: w}
	processed := false
	defer func() { h.finish(r, claim, processed) }() // on a panic too, which goes on
	h.next.ServeHTTP(answer, r.WithContext(ctx))
	if answer.status == 0 && ctx.Err() != nil {
		// net/http would answer 200, and an unprocessed message would be accepted.
		h.refuse(w, r, fmt.Errorf("%w: %w", ErrUnanswered, ctx.Err()))
		return
	}
	processed = answer.accepted()
}

// finish records the end in the store, even when the sender has gone.
func (h *Handler) finish(r *http.Request, claim Claim, processed bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), finishMax)
	defer cancel()
	if err := h.config.Store.Finish(ctx, claim, processed); err != nil {
		h.config.OnError(r, fmt.Errorf("%w: the end of a delivery was not recorded: %w", ErrStore, err))
	}
}

// answer keeps the status that a handler writes.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader keeps the first status that is not 1xx.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implies 200, as in net/http.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find what the server's writer can do.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) accepted() bool { return a.status == 0 || a.status/100 == 2 }

// leaseMin is the shortest time that every clock and driver can represent.
const leaseMin = time.Millisecond

// lease returns the configured lease or the default one.
func lease(configured time.Duration) (time.Duration, error) {
	if configured == 0 {
		return DefaultLease, nil
	}
	if configured < leaseMin {
		return 0, fmt.Errorf("Lease is %v; want %v or more, or 0 for %v", configured, leaseMin, DefaultLease)
	}
	return configured, nil
}
