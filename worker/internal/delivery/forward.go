package delivery

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/header"
)

// decode decodes the JSON parts of a message. A row that was written by hand, or by a newer writer, may hold JSON of
// another shape. That is a fault of this one message.
func decode(m Message) (parts, error) {
	if m.Options == nil && m.Headers == nil {
		return parts{}, nil
	}
	return decodeJSON(m)
}

// decodeJSON is separate from decode because its parts are allocated, which most messages do not need.
func decodeJSON(m Message) (p parts, err error) {
	if m.Options != nil {
		if err := json.Unmarshal(m.Options, &p.options); err != nil {
			return parts{}, fmt.Errorf("options of the message cannot be read: %w", err)
		}
	}
	if m.Headers != nil {
		if err := json.Unmarshal(m.Headers, &p.headers); err != nil {
			return parts{}, fmt.Errorf("headers of the message cannot be read: %w", err)
		}
	}
	return p, nil
}

// takeHeaders sets the run's headers that the options forward, and then the hook's own headers, so that a submitter cannot
// replace those. It leaves out headers that HTTP forbids, and headers that only the worker sets.
func takeHeaders(h http.Header, p parts, n *headerNote) {
	set := func(key, value string) {
		switch err := header.Check(key, value); {
		case err != nil:
			n.leftOut = append(n.leftOut, err.Error())
		case header.Reserved(key):
			n.leftOut = append(n.leftOut, fmt.Sprintf("header %q: set by the worker only", key))
		default:
			h[headerKey(key)] = []string{n.trim(key, value)}
		}
	}
	for _, key := range p.options.Forward {
		if value, ok := p.headers[key]; ok {
			set(key, value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.options.Headers)) { // of two spellings of a name, the same one wins each time
		set(key, p.options.Headers[key])
	}
}

// headerKey returns the canonical form of a header's name, with two exceptions. net/http sends a request again by itself
// when it has one of these two headers in canonical form, but one attempt must be one request.
func headerKey(name string) string {
	switch name = textproto.CanonicalMIMEHeaderKey(name); name {
	case "Idempotency-Key", "X-Idempotency-Key":
		return strings.ToLower(name)
	}
	return name
}
