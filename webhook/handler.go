package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// DefaultBodyBytesMax is four times the largest result that an outbox delivers by default (1 MiB): an envelope escapes the
// result and can hold an error text. A bound that is too low loses messages, because 413 is final.
const DefaultBodyBytesMax = 4 << 20

// HandlerConfig configures a [Handler].
type HandlerConfig struct {
	// Verifier holds the keys; its Keys are the one field without a default.
	Verifier Verifier

	// BodyBytesMax bounds the body, which is held in memory. DefaultBodyBytesMax when 0; not negative. It should be above what
	// the sender may send: for the worker, 413 is final.
	BodyBytesMax int64

	// Store remembers which messages were processed, so that a repeat is answered without calling the handler. No
	// deduplication when nil.
	Store Store

	// Status chooses the answer to a request that is not passed on; DefaultStatus when nil. A value outside of 400 to 599 is
	// answered as 500, so that a refused request never looks accepted.
	Status func(error) int

	// OnError is called for every request that is not passed on, and for a store that could not record the end of a delivery.
	// The error is one of this package, for errors.Is. May be nil. Anybody who can reach the handler can cause calls.
	OnError func(*http.Request, error)
}

func (c HandlerConfig) validate() error {
	var faults []error
	if err := c.Verifier.validate(); err != nil {
		faults = append(faults, err)
	}
	if c.BodyBytesMax < 0 {
		faults = append(faults, fmt.Errorf("BodyBytesMax is %d; want more than 0, or 0 for %d",
			c.BodyBytesMax, DefaultBodyBytesMax))
	}
	return errors.Join(faults...)
}

// Handler is middleware: every request that it passes on is verified, complete and, with a store, not a repeat.
//
// The next handler gets the raw bytes as the body of the request, and the [Delivery] through [FromContext]. Time is bounded by
// the server: set ReadHeaderTimeout and ReadTimeout, because the handler waits for a slow body.
type Handler struct {
	next   http.Handler
	config HandlerConfig
}

// NewHandler returns the middleware in front of next, or every fault of the configuration at once.
func NewHandler(next http.Handler, c HandlerConfig) (*Handler, error) {
	err := c.validate()
	if next == nil {
		err = errors.Join(err, errors.New("next is nil; want the handler of verified requests"))
	}
	if err != nil {
		return nil, fmt.Errorf("webhook handler: %w", err)
	}
	if c.BodyBytesMax == 0 {
		c.BodyBytesMax = DefaultBodyBytesMax
	}
	if c.Status == nil {
		c.Status = DefaultStatus
	}
	if c.OnError == nil {
		c.OnError = func(*http.Request, error) {}
	}
	return &Handler{next: next, config: c}, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d, body, err := h.receive(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	r = handOn(r, d, body)
	if h.config.Store == nil {
		h.next.ServeHTTP(w, r)
		return
	}
	h.once(w, r, d.ID)
}

// receive checks the headers before it reads the body: a request that cannot be genuine costs no memory.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request) (d Delivery, body []byte, err error) {
	e, err := h.config.Verifier.open(r.Header)
	if err != nil {
		return d, nil, err
	}
	body, err = h.readBody(w, r)
	if err != nil {
		return d, nil, err
	}
	d, err = h.config.Verifier.match(e, body)
	return d, body, err
}

// firstBytesMax bounds the memory that Content-Length alone can reserve for a body.
const firstBytesMax = 64 << 10

func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := h.config.BodyBytesMax
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close") // or net/http would read the body to its end, for the next request
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrBodyTooLarge, r.ContentLength, limit)
	}
	var buffer bytes.Buffer
	buffer.Grow(int(min(max(r.ContentLength, 0), firstBytesMax)) + bytes.MinRead)
	_, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBodyTooLarge, limit)
	case err != nil:
		return nil, fmt.Errorf("%w: after %d bytes: %w", ErrBody, buffer.Len(), err)
	}
	return buffer.Bytes(), nil
}

type contextKey struct{}

// FromContext returns the verified facts of a request that a [Handler] passed on.
func FromContext(ctx context.Context) (d Delivery, ok bool) {
	d, ok = ctx.Value(contextKey{}).(Delivery)
	return d, ok
}

// handOn returns the request with a body that can be read again.
func handOn(r *http.Request, d Delivery, body []byte) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), contextKey{}, d))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.TransferEncoding = nil
	return r
}
