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

	// URLs returns the URLs of one outcome, at most outbox.DestinationsMax: each gets a message of its own, all in one
	// statement. Empty ones and repetitions are left out. When it returns none, or is nil, URLHeader and DefaultURL decide.
	URLs func(outbox.RunOutcome) []string

	// RequireURL says that each run must have a destination. One that has none leaves a dead message that says so, for an
	// operator to replay to another URL, and CheckHeaders refuses its headers. False: such a run is told to nobody.
	RequireURL bool

	// Policy is asked by CheckHeaders and CheckOutcome, at submit time: what the worker would refuse (http, private
	// addresses, ports) is refused while the submitter is there. Package worker/urlpolicy makes one of the worker's settings.
	// Only outbox.CheckURL when nil.
	Policy URLPolicy

	// Options say how each message of this hook is delivered: its timeout, method, format, headers, keys and times. The zero
	// value leaves all to the worker. Forward, Traceparent and Tracestate must be empty: ForwardHeaders, Traceparent and Tracestate
	// below say them.
	Options outbox.Options

	// ResultBytesMax is the largest result that is delivered; a larger one makes a dead message. 0 means
	// outbox.ResultBytesLimit (1 MiB); at most outbox.ResultBytesKept (16 MiB).
	ResultBytesMax int

	// ForwardHeaders names the run headers that go into the request, as they are. "X-Tenant" names one, "X-*" all that
	// begin so, "*" all of them but the URL header. None when empty: a run's metadata is the service's own. A pattern leaves
	// out what a receiver or a proxy may trust, unless it is named (outbox.SensitiveHeader).
	ForwardHeaders []string

	// OptionsOf returns how one run's message is delivered. What it leaves zero is as in Options; its Headers are set beside
	// those of Options; its Forward, Traceparent and Tracestate are not used. Options that outbox.Options.Validate refuses make a dead
	// message, for they may come from a stranger's header. Options always when nil.
	OptionsOf func(outbox.RunOutcome) outbox.Options

	// SigningKeyOf returns the name of the key set for one outcome, "" for that of Options: a key per tenant. While the worker
	// does not know the name, the message waits and says so. That of Options always when nil.
	SigningKeyOf func(outbox.RunOutcome) string

	// TenantHeader is the key, compared exactly, of the run header that names the message's tenant: a customer, an account.
	// Each tenant has turns, health, pauses and limits of its own at each endpoint, so that no customer delays another who
	// is called at the same host. The service must set this header itself, whatever the submitter sent: a stranger who
	// chooses his tenant multiplies his turns. No tenant when empty, or when the run lacks it. A name that outbox.CheckTenant
	// refuses becomes "invalid-" and a hash of it, which is a tenant too. Needs tables of version 6 (outbox-worker migrate up).
	TenantHeader string

	// TenantOf returns the tenant of one outcome, "" for the one that TenantHeader names. Only TenantHeader when nil.
	TenantOf func(outbox.RunOutcome) string

	// Traceparent returns the caller's span in the form of W3C Trace Context, "" for none; what is not of that form is
	// dropped. Tracestate returns what goes with it. No span is carried on when nil. Package otelhook has both for
	// OpenTelemetry.
	Traceparent, Tracestate func(context.Context) string

	// DedupeKey returns a key under which only one message is ever written, "" for none. With a key of the run's own
	// (its id and instance), a run that is ended twice is told of once. No deduplication when nil.
	DedupeKey func(outbox.RunOutcome) string

	// DedupeScope says among which messages a key lets only one be written: DedupeKeys (also when empty), all of the outbox;
	// DedupeHook, those of hooks of the same Name; DedupeURL, those to the same URL.
	DedupeScope DedupeScope

	// Name of this hook, for DedupeHook. It must stay as it is: another name is another scope.
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
		faults.Add("ForwardHeaders", outbox.CheckHeader(pattern, "")) // * is a token's byte
	}
	return errors.Join(faults.Err(), c.checkScope())
}

// signingKey returns the name that was asked for, or the hook's own. A name that no key set can have, which may come from
// a stranger's header, must neither end in another tenant's key nor keep the run from ending: it becomes one that no
// worker knows, so that the message waits and says so.
func signingKey(asked, own string) string {
	if asked == "" {
		return own
	}
	if outbox.CheckSigningKeyName(asked) == nil {
		return asked
	}
	return invalidName(asked)
}

// invalidName stands for a name that cannot be used: another one for each.
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

// CheckHeaders reports, at submit time, what [WebhookTerminalHook.OnTermination] would write to dead or the worker
// leave out of the request: a callback URL that can never be delivered to, or that Policy refuses, headers over
// outbox.HeadersBytesMax, and forwarded headers that HTTP forbids. It finds no fault with a run that has no destination,
// unless RequireURL is set. A service that wants to refuse a run early returns its error to the submitter.
// [WebhookTerminalHook.CheckOutcome] looks at more than headers.
func (h *WebhookTerminalHook) CheckHeaders(headers map[string]string) error {
	return h.CheckOutcome(outbox.RunOutcome{Headers: headers})
}

// forwarded returns the keys that ForwardHeaders names, sorted. The URL header is never among them: the
// receiver need not know who else can be called.
func (h *WebhookTerminalHook) forwarded(headers map[string]string) []string {
	if len(h.config.ForwardHeaders) == 0 {
		return nil
	}
	var keys []string
	for key := range headers {
		named := slices.ContainsFunc(h.config.ForwardHeaders, func(p string) bool { return matches(p, key) && !outbox.SensitiveHeader(key, p) })
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
