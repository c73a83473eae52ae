package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// DefaultURLHeader is the run header that names the callback URL.
const DefaultURLHeader = "callback_url"

// WebhookConfig configures a [WebhookTerminalHook]. The zero value is usable.
type WebhookConfig struct {
	// Schema of the outbox; outbox.DefaultSchema when empty.
	Schema string

	// URLHeader is the key, compared exactly, of the run header that holds the callback URL; DefaultURLHeader when
	// empty. A run that lacks it, or whose value is empty, is not delivered unless DefaultURL is set.
	URLHeader string

	// DefaultURL receives the outcomes of runs that name no URL. None when empty.
	DefaultURL string

	// Timeout of each request for this hook's messages, from 1 ms; the worker's own when 0. The worker never waits
	// longer than its own, whatever is asked here.
	Timeout time.Duration

	// ResultBytesMax is the largest result that is delivered; a larger one makes a dead message. 0 means
	// outbox.ResultBytesLimit (1 MiB); at most outbox.ResultBytesKept (16 MiB).
	ResultBytesMax int

	// ForwardHeaders names the run headers that go into the request, as they are. "X-Tenant" names one, "X-*" all that
	// begin so, "*" all of them but the URL header. None when empty: a run's metadata is the service's own.
	ForwardHeaders []string

	// DedupeKey returns a key under which only one message is ever written, "" for none. With a key of the run's own
	// (its id and instance), a run that is ended twice is told of once. No deduplication when nil.
	DedupeKey func(outbox.RunOutcome) string
}

// WebhookTerminalHook writes outcomes as messages to the run's callback URL. It is safe for concurrent use.
type WebhookTerminalHook struct {
	config WebhookConfig
	writer *outbox.Writer
}

var _ TerminalHook = (*WebhookTerminalHook)(nil)

// NewWebhook returns the hook, or every fault of its configuration at once. It touches no database.
func NewWebhook(c WebhookConfig) (*WebhookTerminalHook, error) {
	if c.URLHeader == "" {
		c.URLHeader = DefaultURLHeader
	}
	writer, err := outbox.NewWriter(outbox.Config{Schema: c.Schema, ResultBytesMax: c.ResultBytesMax})
	if err := errors.Join(err, c.validate()); err != nil {
		return nil, fmt.Errorf("webhook hook: %w", err)
	}
	c.ForwardHeaders = slices.Clone(c.ForwardHeaders)
	return &WebhookTerminalHook{config: c, writer: writer}, nil
}

func (c WebhookConfig) validate() error {
	var faults []error
	if c.DefaultURL != "" {
		if _, err := outbox.CheckURL(c.DefaultURL); err != nil {
			faults = append(faults, fmt.Errorf("DefaultURL: %w", err))
		}
	}
	if c.Timeout != 0 && c.Timeout < time.Millisecond {
		faults = append(faults, fmt.Errorf("Timeout is %v; want 1ms or more, or 0 for the worker's own", c.Timeout))
	}
	for _, pattern := range c.ForwardHeaders {
		if err := outbox.CheckHeader(pattern, ""); err != nil { // * is a token's byte
			faults = append(faults, fmt.Errorf("ForwardHeaders: %w", err))
		}
	}
	return errors.Join(faults...)
}

// OnTermination writes the outcome in tx: one statement, or none for a run without a destination.
//
// Its errors wrap [outbox.ErrInvalidOutcome] when the outcome contradicts itself, and are the database's otherwise. A
// destination or result that can never be delivered is not an error: it is written as a dead message.
func (h *WebhookTerminalHook) OnTermination(ctx context.Context, tx outbox.Tx, outcome outbox.RunOutcome) error {
	m, ok, err := h.message(outcome)
	if err != nil || !ok {
		return err
	}
	if _, err := h.writer.Insert(ctx, tx, m); err != nil {
		return fmt.Errorf("webhook hook: %w", err)
	}
	return nil
}

// Queue adds the same statement to a batch that the caller sends in its transaction, next to the acknowledgement, so
// that the outcome costs no round trip. It reports whether the batch now holds one more result.
func (h *WebhookTerminalHook) Queue(batch *pgx.Batch, outcome outbox.RunOutcome) (queued bool, err error) {
	m, ok, err := h.message(outcome)
	if err != nil || !ok {
		return false, err
	}
	if _, err := h.writer.Queue(batch, m); err != nil {
		return false, fmt.Errorf("webhook hook: %w", err)
	}
	return true, nil
}

func (h *WebhookTerminalHook) message(outcome outbox.RunOutcome) (m outbox.Message, ok bool, err error) {
	if err := outcome.Validate(); err != nil {
		return m, false, fmt.Errorf("webhook hook: %w", err)
	}
	url := h.url(outcome.Headers)
	if url == "" {
		return m, false, nil
	}
	m = outbox.Message{
		Outcome: outcome, URL: url,
		Options: outbox.Options{Timeout: h.config.Timeout, Forward: h.forwarded(outcome.Headers)},
	}
	if h.config.DedupeKey != nil {
		m.DedupeKey = h.config.DedupeKey(outcome)
	}
	return m, true, nil
}

func (h *WebhookTerminalHook) url(headers map[string]string) string {
	if url := headers[h.config.URLHeader]; url != "" {
		return url
	}
	return h.config.DefaultURL
}

// CheckHeaders reports, at submit time, what [WebhookTerminalHook.OnTermination] would write to dead or the worker
// leave out of the request: a callback URL that can never be delivered to, headers over outbox.HeadersBytesMax, and
// forwarded headers that HTTP forbids. It finds no fault with a run that has no destination. A service that wants to
// refuse a run early returns its error to the submitter.
func (h *WebhookTerminalHook) CheckHeaders(headers map[string]string) error {
	url := h.url(headers)
	if url == "" {
		return nil
	}
	var faults []error
	if _, err := outbox.CheckURL(url); err != nil {
		faults = append(faults, fmt.Errorf("header %q: %w", h.config.URLHeader, err))
	}
	if err := outbox.CheckHeadersSize(headers); err != nil {
		faults = append(faults, err)
	}
	for _, key := range h.forwarded(headers) {
		if err := outbox.CheckHeader(key, headers[key]); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// forwarded returns the keys that ForwardHeaders names, in their order. The URL header is never among them: the
// receiver need not know who else can be called.
func (h *WebhookTerminalHook) forwarded(headers map[string]string) []string {
	if len(h.config.ForwardHeaders) == 0 {
		return nil
	}
	var keys []string
	for key := range headers {
		named := slices.ContainsFunc(h.config.ForwardHeaders, func(p string) bool { return matches(p, key) })
		if named && key != h.config.URLHeader {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// matches compares without regard to case, as HTTP does. A trailing * in the pattern stands for any ending.
func matches(pattern, key string) bool {
	start, open := strings.CutSuffix(pattern, "*")
	if !open {
		return strings.EqualFold(pattern, key)
	}
	return len(key) >= len(start) && strings.EqualFold(key[:len(start)], start)
}
