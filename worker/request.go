package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// parts are what a claim brought as JSON, decoded.
type parts struct {
	options outbox.Options
	headers map[string]string // the run's
}

// errUnknownKey keeps a message waiting: it is not sent unsigned.
type errUnknownKey struct{ name string }

func (e errUnknownKey) Error() string {
	return fmt.Sprintf("signing key %q: this worker has none of that name that can sign", e.name)
}

// request builds the request. Our own headers are set last and by assignment: nothing a submitter or a hook supplies
// replaces one of them or adds to it. The signature is over the bytes that are sent.
func (d *deliverer) request(ctx context.Context, m message, p parts, a *answer) (*http.Request, error) {
	method, err := check(p.options)
	if err != nil {
		return nil, err
	}
	body, contentType := content(m, p.options)
	req, err := http.NewRequestWithContext(ctx, method, m.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("url or method: cannot be made a request of")
	}
	h, leftOut := req.Header, takeHeaders(req.Header, p)
	h["Content-Type"] = []string{contentType}
	h["User-Agent"] = []string{d.userAgent}
	h["Workflow-Run-Status"] = []string{m.status.String()}
	if outbox.CheckHeader("Workflow-Run-Id", m.runID) == nil {
		h["Workflow-Run-Id"] = []string{m.runID}
	} else {
		leftOut = append(leftOut, "Workflow-Run-Id: the run id holds a control character")
	}
	if p.options.Traceparent != "" && outbox.CheckTraceparent(p.options.Traceparent) == nil {
		h["Traceparent"] = []string{p.options.Traceparent}
	}
	if p.options.Format == outbox.FormatCloudEvents {
		maps.Copy(h, cloudEvent(m, p.options))
	}
	if len(leftOut) > 0 {
		a.note = "left out: " + strings.Join(leftOut, "; ")
	}
	return req, d.sign(h, m, p.options.SigningKey, a.startedAt, body)
}

// check refuses options that no writer of ours wrote: a request of another kind than was asked for is sent to nobody.
func check(o outbox.Options) (method string, err error) {
	method = o.Method
	if method == "" {
		method = http.MethodPost
	}
	if !slices.Contains(outbox.Methods, method) {
		return "", fmt.Errorf("options of the message: method is %.20q; this worker knows %v", method, outbox.Methods)
	}
	switch o.Format {
	case "", outbox.FormatRaw, outbox.FormatEnvelope, outbox.FormatCloudEvents:
	default:
		return "", fmt.Errorf("options of the message: format is %.20q, which this worker does not know", o.Format)
	}
	if outbox.CheckHeader("Content-Type", o.ContentType) != nil {
		return "", errors.New("options of the message: content_type holds a control character")
	}
	return method, nil
}

// sign sets the headers of Standard Webhooks. Without a key set of that name the message is not to be sent; one that
// names no set is sent unsigned if there is no default set.
func (d *deliverer) sign(h http.Header, m message, name string, at time.Time, body []byte) error {
	id := m.id.String()
	h["Webhook-Id"] = []string{id}
	h["Webhook-Timestamp"] = []string{webhook.Timestamp(at)}
	var keys webhook.Keys
	known := false
	if d.keys != nil {
		keys, known = d.keys.Keys(name)
	}
	if !known && name != "" {
		return errUnknownKey{name}
	}
	if !known {
		return nil
	}
	signature := keys.Sign(id, at, body)
	if signature == "" { // a set of public keys only
		return errUnknownKey{name}
	}
	h["Webhook-Signature"] = []string{signature}
	return nil
}

// content returns the body and its type.
func content(m message, o outbox.Options) (body []byte, contentType string) {
	switch {
	case o.Format == outbox.FormatEnvelope:
		return envelope(m), "application/json"
	case o.ContentType != "":
		return m.body, o.ContentType
	case m.status != outbox.Succeeded:
		return m.body, "text/plain; charset=utf-8"
	case isJSON(m.body):
		return m.body, "application/json"
	case utf8.Valid(m.body):
		return m.body, "text/plain; charset=utf-8"
	}
	return m.body, "application/octet-stream"
}

// isJSON asks for UTF-8 as well, as RFC 8259 does: json.Valid passes over what stands in a string.
func isJSON(b []byte) bool { return json.Valid(b) && utf8.Valid(b) }

// eventType is the type of an envelope or a CloudEvent: workflow.run.succeeded and so on.
func eventType(m message) string { return "workflow.run." + m.status.String() }

// eventTime is when the writer made the message, the same on every attempt.
func eventTime(m message) string { return m.id.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// envelope is the payload that Standard Webhooks recommends. A result that is JSON stands in it as it is, one that is
// text as a string, any other in base64.
func envelope(m message) []byte {
	type data struct {
		RunID        string          `json:"run_id"`
		Status       string          `json:"status"`
		Result       json.RawMessage `json:"result,omitempty"`
		ResultBase64 []byte          `json:"result_base64,omitempty"`
		Error        *string         `json:"error,omitempty"`
	}
	d := data{RunID: m.runID, Status: m.status.String()}
	switch {
	case m.status != outbox.Succeeded:
		text := string(m.body)
		d.Error = &text
	case isJSON(m.body):
		d.Result = m.body
	case utf8.Valid(m.body):
		d.Result = quote(string(m.body))
	default:
		d.ResultBase64 = m.body
	}
	text, err := json.Marshal(struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      data   `json:"data"`
	}{eventType(m), eventTime(m), d})
	if err != nil {
		panic(err) // strings, and JSON that was found valid
	}
	return text
}

func quote(s string) json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always encodes
	}
	return text
}

// cloudEvent returns the headers of CloudEvents 1.0 in binary mode (HTTP protocol binding, section 3.1). Values are
// percent-encoded as its section 3.1.3.2 says.
func cloudEvent(m message, o outbox.Options) http.Header {
	source := o.Source
	if source == "" {
		source = outbox.DefaultSource
	}
	return http.Header{
		"Ce-Specversion": {"1.0"},
		"Ce-Id":          {m.id.String()},
		"Ce-Type":        {eventType(m)},
		"Ce-Source":      {ceEncode(source)},
		"Ce-Subject":     {ceEncode(m.runID)},
		"Ce-Time":        {eventTime(m)},
	}
}

// ceEncode encodes space, double quote, percent and all that is not printable ASCII.
func ceEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
