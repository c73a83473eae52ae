package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/httpmethod"
	"github.com/seed-abbacb8b/epilogue/internal/keyname"
)

// Options say how one message is delivered. The zero value leaves everything to the worker: a POST of the raw body, signed with
// the default key set where there is one.
type Options struct {
	// Timeout of each request, whole milliseconds; the worker's own timeout when zero, and never more than that.
	Timeout time.Duration

	// Method is POST (also when empty), PUT or PATCH.
	Method string

	// Format of the request; FormatRaw when empty.
	Format Format

	// Source is the CloudEvents source, a URI reference; "/workflow-runs" when empty. Other formats have none.
	Source string

	// ContentType of a raw or CloudEvents body; detected when empty: JSON, UTF-8 text or octets.
	ContentType string

	// Headers are set on each request as they are; those that the worker or HTTP sets are refused.
	Headers map[string]string

	// Forward lists the keys of the run's headers that go into the request. None when empty. Those that HTTP forbids or
	// the worker sets itself are left out, which the attempt's note records.
	Forward []string

	// SigningKey names the key set to sign with; the worker's default one when empty. While the worker does not know
	// the name, the message waits: it is never sent unsigned.
	SigningKey string

	// SecretHeaders names a set of headers that the worker holds, for a receiver that needs an API key: the row keeps only the
	// name. None when empty. While the worker does not know the name, the message waits. Where the set does not list the
	// endpoint of the message, the message is dead (refused) and nothing is sent.
	SecretHeaders string

	// Traceparent is the span of the writer as a W3C traceparent; each request passes it on.
	Traceparent string

	// Tracestate belongs to Traceparent (W3C Trace Context, section 3.3); dropped where that is empty. Programs older than this
	// field ignore it.
	Tracestate string

	// Delay is the time from writing to the first attempt, in whole milliseconds, by the clock of the database. At once when
	// zero; at most DelayMax: longer delays belong to a scheduler.
	Delay time.Duration

	// ExpireAfter is how long after writing the message is worth sending, in whole milliseconds, by the clock of the database.
	// No request begins after it: the next claim makes the message dead with the reason "expired". Never when zero; at least
	// ExpireAfterMin, more than Delay, and at most ExpireAfterMax. A worker from before tables of version 8 ignores it.
	ExpireAfter time.Duration
}

// Bounds of Delay and ExpireAfter.
const (
	DelayMax       = 30 * 24 * time.Hour
	ExpireAfterMin = time.Second
	ExpireAfterMax = 365 * 24 * time.Hour
)

// Format is what a request looks like.
type Format string

// The formats. In each, webhook-id and the signature are headers.
const (
	FormatRaw         Format = "raw"         // the result, or the error text, as it is
	FormatEnvelope    Format = "envelope"    // Standard Webhooks' JSON: type, timestamp, data
	FormatCloudEvents Format = "cloudevents" // CloudEvents 1.0 in binary mode: the raw body, and ce- headers
)

// OptionsBytesMax bounds what a hook's configuration adds to each row, so that no row is refused because of it.
const OptionsBytesMax = 64 << 10

// timeoutMax is more than any worker waits. A longer timeout, written into a row by hand, is replaced by it.
const timeoutMax = 24 * time.Hour

// FieldFaults are the faults of [Options] or [operator.Limits], by their fields.
type FieldFaults = fieldfault.Faults

// Validate reports every fault at once, as [FieldFaults].
func (o Options) Validate() error {
	var faults FieldFaults
	check := faults.Check
	check(o.Timeout == 0 || o.Timeout >= time.Millisecond, "Timeout", "is %v; want 1ms or more, or 0 for the worker's own", o.Timeout)
	check(o.Delay >= 0 && o.Delay <= DelayMax, "Delay", "is %v; want 0 to %v", o.Delay, DelayMax)
	check(o.ExpireAfter == 0 || o.ExpireAfter >= ExpireAfterMin && o.ExpireAfter <= ExpireAfterMax,
		"ExpireAfter", "is %v; want %v to %v, or 0 for never", o.ExpireAfter, ExpireAfterMin, ExpireAfterMax)
	check(o.ExpireAfter == 0 || o.ExpireAfter > o.Delay, "ExpireAfter", "is %v; want more than %s (%v)", o.ExpireAfter, fieldfault.Name("Delay"), o.Delay)
	check(o.Method == "" || httpmethod.Valid(o.Method), "Method", "is %q; want one of %v", o.Method, httpmethod.All())
	check(o.Format == "" || o.Format == FormatRaw || o.Format == FormatEnvelope || o.Format == FormatCloudEvents,
		"Format", "is %q; want %s, %s or %s", o.Format, FormatRaw, FormatEnvelope, FormatCloudEvents)
	check(o.Source == "" || header.Check("Ce-Source", o.Source) == nil && !strings.Contains(o.Source, " "), "Source", "is %q; want a URI reference", o.Source)
	if o.ContentType != "" {
		_, _, err := mime.ParseMediaType(o.ContentType)
		check(err == nil && header.Check("Content-Type", o.ContentType) == nil, "ContentType", "is %q; want a media type", o.ContentType)
		check(o.Format != FormatEnvelope, "ContentType", "is set; an envelope is always application/json")
	}
	for _, key := range slices.Sorted(maps.Keys(o.Headers)) {
		faults.Add("Headers", header.Check(key, o.Headers[key]))
		if header.Reserved(key) {
			faults.Add("Headers", fmt.Errorf("header %q is set by the worker only", key))
		}
	}
	bytes := len(o.Source) + len(o.ContentType)
	for key, value := range o.Headers {
		bytes += len(key) + len(value)
	}
	check(bytes <= OptionsBytesMax, "Headers", "with %s and %s has %d bytes; want at most %d",
		fieldfault.Name("Source"), fieldfault.Name("ContentType"), bytes, OptionsBytesMax)
	if o.SigningKey != "" {
		faults.Add("SigningKey", keyname.Check(o.SigningKey))
	}
	if o.SecretHeaders != "" && !keyname.Valid(o.SecretHeaders) {
		faults.Add("SecretHeaders", errors.New("not the name of a header set (it is not shown, because it may be a secret); "+
			"want 1 to 64 of A-Z, a-z, 0-9, _, . and -, beginning with a letter or digit"))
	}
	if o.Traceparent != "" {
		faults.Add("Traceparent", header.CheckTraceparent(o.Traceparent))
	}
	if o.Tracestate != "" {
		faults.Add("Tracestate", header.CheckTracestate(o.Tracestate))
	}
	return faults.Err()
}

// optionsJSON is the form of Options in the row.
type optionsJSON struct {
	TimeoutMS   int64             `json:"timeout_ms,omitempty"`
	Method      string            `json:"method,omitempty"`
	Format      Format            `json:"format,omitempty"`
	Source      string            `json:"source,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Forward     []string          `json:"forward,omitempty"`
	SigningKey  string            `json:"signing_key,omitempty"`
	Secret      string            `json:"secret_headers,omitempty"`
	Traceparent string            `json:"traceparent,omitempty"`
	Tracestate  string            `json:"tracestate,omitempty"`
	DelayMS     int64             `json:"delay_ms,omitempty"` // already in due.due_at; kept for readers
	ExpiresMS   int64             `json:"expire_after_ms,omitempty"`
}

// MarshalJSON writes the form of the column message.options.
func (o Options) MarshalJSON() ([]byte, error) {
	return []byte(mustJSON(optionsJSON{
		TimeoutMS: o.Timeout.Milliseconds(), Method: o.Method, Format: o.Format, Source: o.Source, ContentType: o.ContentType,
		Headers: o.Headers, Forward: o.Forward, SigningKey: o.SigningKey, Secret: o.SecretHeaders, Traceparent: o.Traceparent,
		Tracestate: o.Tracestate,
		DelayMS:    o.Delay.Milliseconds(), ExpiresMS: o.ExpireAfter.Milliseconds(),
	})), nil
}

// UnmarshalJSON reads what [Options.MarshalJSON] wrote. It ignores unknown keys: the options of a newer writer do not stop an
// older worker.
func (o *Options) UnmarshalJSON(text []byte) error {
	var j optionsJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	*o = Options{
		Timeout: milliseconds(j.TimeoutMS, timeoutMax), Method: j.Method, Format: j.Format, Source: j.Source,
		ContentType: j.ContentType, Headers: j.Headers, Forward: j.Forward, SigningKey: j.SigningKey, SecretHeaders: j.Secret, Traceparent: j.Traceparent,
		Tracestate: j.Tracestate,
		Delay:      milliseconds(j.DelayMS, DelayMax), ExpireAfter: milliseconds(j.ExpiresMS, ExpireAfterMax),
	}
	return nil
}

// milliseconds reads a number that may have been written by hand.
func milliseconds(n int64, most time.Duration) time.Duration {
	return time.Duration(min(max(n, 0), most.Milliseconds())) * time.Millisecond
}

// arg is the column's value: NULL for options that leave everything to the worker.
func (o Options) arg() any {
	if text := mustJSON(o); text != "{}" {
		return asciiJSON(text)
	}
	return nil
}
