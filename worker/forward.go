package worker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

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

// takeHeaders sets the run's headers that the options name, and over them the hook's own, which a submitter cannot
// replace. What HTTP forbids, and what is not theirs to set, is left out.
func takeHeaders(h http.Header, p parts) (leftOut []string) {
	set := func(key, value string) {
		switch err := outbox.CheckHeader(key, value); {
		case err != nil:
			leftOut = append(leftOut, err.Error())
		case outbox.ReservedHeader(key):
			leftOut = append(leftOut, fmt.Sprintf("header %q: set by the worker only", key))
		default:
			h[headerKey(key)] = []string{value}
		}
	}
	for _, key := range p.options.Forward {
		if value, ok := p.headers[key]; ok {
			set(key, value)
		}
	}
	for key, value := range p.options.Headers {
		set(key, value)
	}
	return leftOut
}

// headerKey is the canonical form of a name, but for two: net/http takes a request that has one of them in that form
// for one that it may send again by itself, and an attempt is one request.
func headerKey(name string) string {
	switch name = textproto.CanonicalMIMEHeaderKey(name); name {
	case "Idempotency-Key", "X-Idempotency-Key":
		return strings.ToLower(name)
	}
	return name
}
