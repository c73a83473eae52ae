package delivery

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// content returns the body of a request and its Content-Type.
func content(m Message, o outbox.Options) (body []byte, contentType string) {
	switch {
	case o.Format == outbox.FormatEnvelope:
		return envelope(m), "application/json"
	case o.ContentType != "":
		return m.Body, o.ContentType
	case m.Status != outbox.Succeeded:
		return m.Body, "text/plain; charset=utf-8"
	case isJSON(m.Body):
		return m.Body, "application/json"
	case utf8.Valid(m.Body):
		return m.Body, "text/plain; charset=utf-8"
	}
	return m.Body, "application/octet-stream"
}

// isJSON reports JSON in UTF-8, as RFC 8259 requires. json.Valid alone accepts invalid UTF-8 inside a string.
func isJSON(b []byte) bool { return json.Valid(b) && utf8.Valid(b) }

// eventType is the type of an envelope or a CloudEvent: workflow.run.succeeded and so on.
func eventType(m Message) string { return "workflow.run." + m.Status.String() }

// eventTime is when the writer made the message. It is the same on every attempt.
func eventTime(m Message) string { return m.ID.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// envelope is the payload that Standard Webhooks recommends. A result that is JSON is embedded as it is, one that is text
// becomes a string, and any other is encoded in base64.
func envelope(m Message) []byte {
	type data struct {
		RunID        string          `json:"run_id"`
		Status       string          `json:"status"`
		Result       json.RawMessage `json:"result,omitempty"`
		ResultBase64 []byte          `json:"result_base64,omitempty"`
		Error        *string         `json:"error,omitempty"`
	}
	d := data{RunID: m.RunID, Status: m.Status.String()}
	switch {
	case m.Status != outbox.Succeeded:
		text := string(m.Body)
		d.Error = &text
	case isJSON(m.Body):
		d.Result = m.Body
	case utf8.Valid(m.Body):
		d.Result = mustJSON(string(m.Body))
	default:
		d.ResultBase64 = m.Body
	}
	return mustJSON(struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      data   `json:"data"`
	}{eventType(m), eventTime(m), d})
}

// mustJSON encodes values that always encode: strings, and structs of strings and of JSON that was found valid.
func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// defaultSource is the source of messages whose options name none; the docs of [outbox.Options] say so.
const defaultSource = "/workflow-runs"

// cloudEvent returns the headers of CloudEvents 1.0 in binary mode (HTTP protocol binding, section 3.1). Their values are
// percent-encoded (section 3.1.3.2).
func cloudEvent(m Message, o outbox.Options) http.Header {
	source := o.Source
	if source == "" {
		source = defaultSource
	}
	return http.Header{
		"Ce-Specversion": {"1.0"},
		"Ce-Id":          {m.ID.String()},
		"Ce-Type":        {eventType(m)},
		"Ce-Source":      {percentEncode(source)},
		"Ce-Subject":     {percentEncode(m.RunID)},
		"Ce-Time":        {eventTime(m)},
	}
}

// percentEncode encodes space, double quote, percent, and every byte that is not printable ASCII.
func percentEncode(s string) string {
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
