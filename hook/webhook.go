package hook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/keyname"
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

	// URLs returns the URLs of one outcome, at most outbox.DestinationsMax. Each gets a message of its own, all in one
	// statement. Empty ones and repetitions are left out. When it returns none, or is nil, URLHeader and DefaultURL decide.
	URLs func(outbox.RunOutcome) []string

	// RequireURL says that each run must have a destination. A run without one then leaves a dead message, which an operator
	// can replay to another URL, and CheckHeaders refuses its headers. When false, such a run leaves no message.
	RequireURL bool

	// Policy is asked by CheckHeaders and CheckOutcome at submit time, so that the submitter hears at once what the worker
	// would refuse later (http, private addresses, ports). Package worker/urlpolicy makes one from the settings of the worker.
	// When nil, only outbox.CheckURL is asked.
	Policy URLPolicy

	// Options say how each message of this hook is delivered: its timeout, method, format, headers, keys and times. The zero
	// value leaves everything to the worker. Forward, Traceparent and Tracestate must be empty: the fields ForwardHeaders, Traceparent and
	// Tracestate below set them.
	Options outbox.Options

	// ResultBytesMax is the largest result that is delivered; a larger one makes a dead message. 0 means
	// outbox.ResultBytesLimit (1 MiB); at most outbox.ResultBytesKept (16 MiB).
	ResultBytesMax int

	// ForwardHeaders names the run headers that go into the request unchanged. "X-Tenant" names one, "X-*" all that begin with X-,
	// "*" all of them except the URL header. None when empty, because the headers of a run belong to the service. A pattern leaves
	// out headers that a receiver or a proxy may trust, unless it names them: credentials, signatures of other senders,
	// X-Forwarded-* and method overrides.
	ForwardHeaders []string

	// OptionsOf returns how the message of one run is delivered. A field that it leaves zero is as in Options. Its Headers are
	// added to those of Options; its Forward and Traceparent are not used. Options that outbox.Options.Validate refuses make a
	// dead message, because they may come from the header of a submitter. When nil, Options apply to all runs.
	OptionsOf func(outbox.RunOutcome) outbox.Options

	// SigningKeyOf returns the name of the key set for one outcome, "" for that of Options: for example a key per tenant. While the worker
	// does not know the name, the message waits and says so. When nil, all messages use that of Options.
	SigningKeyOf func(outbox.RunOutcome) string

	// TenantHeader is the key, compared exactly, of the run header that names the tenant of the message: a customer, an
	// account. At each endpoint, each tenant has its own share of the requests, health, pauses and limits, so that no customer
	// delays another one at the same host. The service must set this header itself, whatever the submitter sent: a submitter
	// who chooses the tenant can take the shares of many. No tenant when empty, or when the run lacks the header. A name that
	// outbox.CheckTenant refuses becomes "invalid-" and a hash of the name. Needs tables of version 6 (outbox-worker migrate
	// up).
	TenantHeader string

	// TenantOf returns the tenant of one outcome, "" for the one that TenantHeader names. Only TenantHeader when nil.
	TenantOf func(outbox.RunOutcome) string

	// Traceparent returns the span of the caller as a W3C traceparent, "" for none. Text of another form is dropped. No span is
	// passed on when nil.
	Traceparent, Tracestate func(context.Context) string

	// DedupeKey returns a key under which only one message is ever written, "" for none. With a key that belongs to the run
	// (its id and instance), a run that ends twice is reported once. No deduplication when nil.
	DedupeKey func(outbox.RunOutcome) string

	// DedupeScope is the set of messages among which a key is unique: DedupeKeys (also when empty), the whole outbox;
	// DedupeHook, the hooks with the same Name; DedupeURL, the messages to the same URL.
	DedupeScope DedupeScope

	// Name of this hook, for DedupeHook. Do not change it later: another name is another scope.
	Name string
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
	if c.Schema == "" {
		c.Schema = outbox.DefaultSchema
	}
	writer, err := outbox.NewWriter(outbox.Config{Schema: c.Schema, ResultBytesMax: c.ResultBytesMax})
	if err := errors.Join(err, c.validate()); err != nil {
		return nil, fmt.Errorf("webhook hook: %w", err)
	}
	c.ForwardHeaders, c.Options.Headers = slices.Clone(c.ForwardHeaders), maps.Clone(c.Options.Headers)
	return &WebhookTerminalHook{config: c, writer: writer}, nil
}

func (c WebhookConfig) validate() error {
	var faults fieldfault.Faults
	if c.DefaultURL != "" {
		_, err := outbox.CheckURL(c.DefaultURL)
		faults.Add("DefaultURL", err)
	}
	faults = append(faults, fieldfault.Below("Options", c.Options.Validate())...)
	faults.Check(len(c.Options.Forward) == 0, "Options.Forward", "is set; want %s", fieldfault.Name("ForwardHeaders"))
	faults.Check(c.Options.Traceparent == "", "Options.Traceparent", "is set; want the function %s", fieldfault.Name("Traceparent"))
	faults.Check(c.Options.Tracestate == "", "Options.Tracestate", "is set; want the function %s", fieldfault.Name("Tracestate"))
	for _, pattern := range c.ForwardHeaders {
		faults.Add("ForwardHeaders", header.Check(pattern, "")) // * is a token's byte
	}
	return errors.Join(faults.Err(), c.checkScope())
}

// signingKey returns the name that was asked for, or the one of the hook. A name that no key set can have may come from the
// header of a submitter. It must neither select the key of another tenant nor keep the run from ending. So it becomes a name
// that no worker knows, and the message waits and says so.
func signingKey(asked, own string) string {
	if asked == "" {
		return own
	}
	if keyname.Check(asked) == nil {
		return asked
	}
	return invalidName(asked)
}

// invalidName replaces a name that cannot be used. Different names get different replacements.
func invalidName(asked string) string {
	sum := sha256.Sum256([]byte(asked))
	return "invalid-" + hex.EncodeToString(sum[:8])
}

// tenant returns the outcome's tenant, "" for none. A name that no tenant can have must not keep the run from ending.
func (h *WebhookTerminalHook) tenant(outcome outbox.RunOutcome) string {
	name := ""
	if h.config.TenantOf != nil {
		name = h.config.TenantOf(outcome)
	}
	if name == "" && h.config.TenantHeader != "" {
		name = outcome.Headers[h.config.TenantHeader]
	}
	if name != "" && outbox.CheckTenant(name) != nil {
		return invalidName(name)
	}
	return name
}

func (h *WebhookTerminalHook) url(headers map[string]string) string {
	if url := headers[h.config.URLHeader]; url != "" {
		return url
	}
	return h.config.DefaultURL
}

// CheckHeaders reports, at submit time, what [WebhookTerminalHook.OnTermination] would write as a dead message or the worker
// would leave out of the request: a callback URL that can never be delivered to, or that Policy refuses; headers over
// outbox.HeadersBytesMax; forwarded headers that HTTP forbids. A run without a destination is no fault, unless RequireURL is
// set. A service that refuses runs early returns this error to the submitter. [WebhookTerminalHook.CheckOutcome] checks more
// than headers.
func (h *WebhookTerminalHook) CheckHeaders(headers map[string]string) error {
	return h.CheckOutcome(outbox.RunOutcome{Headers: headers})
}

// forwarded returns the keys that ForwardHeaders names, sorted. The URL header is never among them: a receiver need not know
// the other URLs.
func (h *WebhookTerminalHook) forwarded(headers map[string]string) []string {
	if len(h.config.ForwardHeaders) == 0 {
		return nil
	}
	var keys []string
	for key := range headers {
		named := slices.ContainsFunc(h.config.ForwardHeaders, func(p string) bool { return matches(p, key) && !header.Sensitive(key, p) })
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
