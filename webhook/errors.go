package webhook

import "errors"

// What is wrong with a request, for errors.Is. None of the errors holds a key, a signature, or what would have matched.
var (
	// ErrMissingHeader: webhook-id, webhook-timestamp or webhook-signature is absent or empty.
	ErrMissingHeader = errors.New("missing webhook header")

	// ErrInvalidHeader: one of them is given twice, is too long, or is not of its form. See [CheckID].
	ErrInvalidHeader = errors.New("invalid webhook header")

	// ErrTimestamp: webhook-timestamp is further from now than the tolerance. The request was delayed or replayed, or
	// a clock is wrong. A new attempt carries a new timestamp.
	ErrTimestamp = errors.New("webhook timestamp outside the tolerance")

	// ErrSignature: no signature is one of the verifier's keys over this id, timestamp and body.
	ErrSignature = errors.New("no webhook signature matches")

	// ErrVerifier: the verifier itself is not usable: it has no key, or a negative tolerance.
	ErrVerifier = errors.New("webhook verifier")
)

// What else keeps a [Handler] from passing a request on.
var (
	// ErrBodyTooLarge: the body is longer than HandlerConfig.BodyBytesMax.
	ErrBodyTooLarge = errors.New("webhook body too large")

	// ErrBody: the body could not be read to its end. The connection broke, or the server's deadline passed.
	ErrBody = errors.New("webhook body incomplete")

	// ErrInProgress: another request with this webhook-id is being handled.
	ErrInProgress = errors.New("webhook in progress")

	// ErrUnanswered: the handler returned without an answer when its context had ended.
	ErrUnanswered = errors.New("webhook not answered in time")

	// ErrStore: the store could not claim the message, or could not record its end.
	ErrStore = errors.New("webhook store")
)
