package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/httpmethod"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// Message is what one attempt needs of a claimed message. Send does not change it.
type Message struct {
	ID      outbox.ID
	RunID   string
	Status  outbox.TerminalStatus
	Body    []byte // the run's result, or its error text
	URL     string
	Headers []byte // the run's headers as JSON; nil when the message forwards none
	Options []byte // outbox.Options as JSON; nil when the message has none
	Attempt int    // counted over the message's life, from 1
	Event   bool   // it is in the lane of events: URL and key are this worker's (event.go)
}

// parts are the JSON parts of a Message, decoded.
type parts struct {
	options outbox.Options
	headers map[string]string // the run's
}

// unknownKeyError makes a message wait: it is not sent unsigned.
type unknownKeyError struct{ name string }

func (e unknownKeyError) Error() string {
	return fmt.Sprintf("signing key %q: this worker has none of that name that can sign", e.name)
}

// request builds the request of an attempt that began at that time. It sets the worker's own headers last and by
// assignment, so that no header of a submitter or a hook replaces one of them or adds a value to it. note says which
// headers were left out.
func (s *Sender) request(ctx context.Context, m Message, p parts, in span, at time.Time) (req *http.Request, note string, err error) {
	method, err := checkOptions(p.options)
	if err != nil {
		return nil, "", err
	}
	to, err := s.targets.normal(m.URL) // an older writer did not normalize it
	if err != nil {
		return nil, "", err
	}
	body, contentType := content(m, p.options)
	req, err = http.NewRequestWithContext(ctx, method, "", bytes.NewReader(body))
	if err != nil {
		return nil, "", errors.New("method: cannot be used in a request")
	}
	req.URL, req.Host = to.url, to.url.Host
	var n headerNote
	h := req.Header
	takeHeaders(h, p, &n)
	if err := s.addSecrets(h, p.options.SecretHeaders, to.endpoint); err != nil {
		return nil, "", err
	}
	own := ownHeaders{of: h}
	own.set("Content-Type", contentType)
	own.set("User-Agent", s.userAgent)
	addRun(&own, m, &n)
	in.inject(&own)
	if p.options.Format == outbox.FormatCloudEvents {
		maps.Copy(h, cloudEvent(m, p.options))
	}
	return req, n.String(), s.sign(&own, m.ID.String(), p.options.SigningKey, at, body)
}

// ownHeaders sets the worker's own headers. One allocation holds their values for a request.
type ownHeaders struct {
	of     http.Header
	values []string
}

// ownHeadersMost is how many of them a request has.
const ownHeadersMost = 9

func (own *ownHeaders) set(name, value string) {
	if own.values == nil {
		own.values = make([]string, 0, ownHeadersMost)
	}
	own.values = append(own.values, value)
	last := len(own.values) - 1
	own.of[name] = own.values[last : last+1 : last+1]
}

// checkOptions returns the method of the request. It refuses options that no writer of this version writes, because the
// request would not be the one that was asked for.
func checkOptions(o outbox.Options) (method string, err error) {
	method = o.Method
	if method == "" {
		method = http.MethodPost
	}
	if !httpmethod.Valid(method) {
		return "", fmt.Errorf("options of the message: method is %.20q; this worker knows %v", method, httpmethod.All())
	}
	switch o.Format {
	case "", outbox.FormatRaw, outbox.FormatEnvelope, outbox.FormatCloudEvents:
	default:
		return "", fmt.Errorf("options of the message: format is %.20q, which this worker does not know", o.Format)
	}
	if header.Check("Content-Type", o.ContentType) != nil {
		return "", errors.New("options of the message: content_type holds a control character")
	}
	return method, nil
}

// sign sets the headers of Standard Webhooks, with a signature by the key set of that name. A message that names no key
// set is sent unsigned if there is no default key set.
func (s *Sender) sign(own *ownHeaders, id, name string, at time.Time, body []byte) error {
	own.set("Webhook-Id", id)
	own.set("Webhook-Timestamp", webhook.Timestamp(at))
	var keys webhook.Keys
	known := false
	if s.keys != nil {
		keys, known = s.keys.Keys(name)
	}
	if !known && name != "" {
		return unknownKeyError{name}
	}
	if !known {
		return nil
	}
	signature := keys.Sign(id, at, body)
	if signature == "" { // the key set holds public keys only
		return unknownKeyError{name}
	}
	own.set("Webhook-Signature", signature)
	return nil
}
