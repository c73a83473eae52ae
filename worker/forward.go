package worker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// reserved are the headers that only the worker, or HTTP itself, sets.
var reserved = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Traceparent", "Tracestate", "Trailer", "Transfer-Encoding",
	"Upgrade", "User-Agent", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp", "Workflow-Run-Id",
	"Workflow-Run-Status",
}

// extraHeaders are those of the run's headers that go into the request, and why others that were asked for do not.
type extraHeaders struct {
	header  http.Header
	leftOut []string
}

// decode reads what a claim brought as JSON. A row that was written by hand, or by a writer that knows more than we do,
// may hold what cannot be read: that is a fault of this message, and of no other.
func decode(m message) (options outbox.Options, headers map[string]string, err error) {
	if m.options != nil {
		if err := json.Unmarshal(m.options, &options); err != nil {
			return options, nil, fmt.Errorf("options of the message cannot be read: %w", err)
		}
	}
	if m.headers != nil {
		if err := json.Unmarshal(m.headers, &headers); err != nil {
			return options, nil, fmt.Errorf("headers of the message cannot be read: %w", err)
		}
	}
	return options, headers, nil
}

// forwarded takes the headers that the message's options name. What HTTP forbids, and what is not the submitter's to
// set, is left out.
func forwarded(keys []string, headers map[string]string) extraHeaders {
	var extra extraHeaders
	for _, key := range keys {
		value, ok := headers[key]
		if !ok {
			continue
		}
		name := textproto.CanonicalMIMEHeaderKey(key)
		switch err := outbox.CheckHeader(key, value); {
		case err != nil:
			extra.leftOut = append(extra.leftOut, err.Error())
		case slices.Contains(reserved, name):
			extra.leftOut = append(extra.leftOut, fmt.Sprintf("header %q: set by the worker only", key))
		default:
			if extra.header == nil {
				extra.header = http.Header{}
			}
			extra.header[name] = []string{value}
		}
	}
	return extra
}
