package delivery

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// forwarding returns the message with these headers of the run. The hook forwards all of them.
func (m Message) forwarding(t testing.TB, headers map[string]string) Message {
	t.Helper()
	m.Headers = encode(t, headers)
	return m.with(t, outbox.Options{Forward: slices.Sorted(maps.Keys(headers))})
}

func TestTheRequestHoldsTheOutcome(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	const text = "text/plain; charset=utf-8"
	s := newSender(t, allowing("127.0.0.1"))
	for _, c := range []struct {
		runID       string
		status      outbox.TerminalStatus
		body        string
		contentType string
	}{
		{"json", outbox.Succeeded, ` {"a": [1]} `, "application/json"},
		{"text", outbox.Succeeded, "grüße", text},
		{"bytes", outbox.Succeeded, "\xff\x00\x01", "application/octet-stream"},
		{"nothing", outbox.Succeeded, "", text},
		{"failed", outbox.Failed, "it broke: ä", text},
		{"failed-json", outbox.Failed, `{"a":1}`, text},
		{"stopped", outbox.Cancelled, "by the user", text},
		{"stopped-from-outside", outbox.Cancelled, "", text},
		{"run/with spaces and ä", outbox.Succeeded, "", text},
	} {
		m := Message{ID: outbox.NewID(), RunID: c.runID, Status: c.status, Body: []byte(c.body), URL: to.URL + "/hook?a=b"}
		m.Headers = encode(t, map[string]string{"X-Tenant": "the service's own", "callback_url": to.URL})
		before := time.Now().Unix()
		wantDelivered(t, c.runID, s.Send(t.Context(), m))
		after, req := time.Now().Unix(), to.last(t)
		if req.id != m.ID.String() || req.runID != c.runID || req.status != c.status.String() || req.body != c.body || req.method != http.MethodPost || req.path != "/hook" {
			t.Errorf("run %q: the receiver got %+v, want the status %s and the body %q", c.runID, req, c.status, c.body)
		}
		if got := req.header.Get("Content-Type"); got != c.contentType {
			t.Errorf("run %q: Content-Type %q, want %q", c.runID, got, c.contentType)
		}
		if got := req.header.Get("User-Agent"); got != "Epilogue" {
			t.Errorf("run %q: User-Agent %q, want Epilogue", c.runID, got)
		}
		if at, err := strconv.ParseInt(req.header.Get("webhook-timestamp"), 10, 64); err != nil || at < before || at > after {
			t.Errorf("run %q: webhook-timestamp %d, want %d to %d (%v)", c.runID, at, before, after, err)
		}
		if req.header.Get("X-Tenant") != "" || req.header.Get("callback_url") != "" {
			t.Errorf("run %q: the request has headers of the run that the hook does not forward: %v", c.runID, req.header)
		}
	}
}

func TestALargeBodyArrivesWhole(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	m := messageTo(to.URL)
	m.Body = []byte(strings.Repeat("0123456789", 200_000))
	wantDelivered(t, "a large body", sendOnce(t, allowing("127.0.0.1"), m))
	if got := to.last(t).body; got != string(m.Body) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(m.Body))
	}
}

func TestForwardedHeadersReplaceNoHeaderOfTheWorker(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	headers := map[string]string{
		"X-Tenant": "acme", "x-lower": "kept", "X-Accent": "grüße", "Authorization": "Bearer t",
		"X-Bad-Value": "a\r\nWebhook-Id: forged", "X-Nul": "forged\x01", "ümlaut": "forged", "with space": "forged", "": "forged",
	}
	leftOut := []string{"X-Bad-Value", "X-Nul", "ümlaut", "with space", "header name is empty"}
	for _, name := range header.ReservedNames() {
		headers[strings.ToLower(name)] = "forged"
		leftOut = append(leftOut, strings.ToLower(name))
	}
	c := allowing("127.0.0.1")
	c.UserAgent = "Epilogue/test"
	m := messageTo(to.URL).forwarding(t, headers)
	a := sendOnce(t, c, m)
	wantDelivered(t, "a message", a)

	got := to.last(t)
	wantNothingForged(t, got)
	for name, value := range map[string]string{
		"X-Tenant": "acme", "X-Lower": "kept", "X-Accent": "grüße", "Authorization": "Bearer t",
		"Webhook-Id": m.ID.String(), "Workflow-Run-Id": "run-1", "Workflow-Run-Status": "succeeded",
		"User-Agent": "Epilogue/test", "Content-Type": "application/json",
	} {
		if got := got.header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if !strings.HasSuffix(to.URL, got.host) {
		t.Errorf("Host is %q, want that of %s", got.host, to.URL)
	}
	for _, name := range leftOut {
		if !strings.Contains(a.Note, name) {
			t.Errorf("the note is %s, want %q in it", a.Note, name)
		}
	}
	if strings.Contains(a.Note, "forged") || strings.Contains(a.Note, "acme") {
		t.Errorf("the note contains a header's value, which may be a secret: %s", a.Note)
	}
}

func wantNothingForged(t *testing.T, req request) {
	t.Helper()
	for name, values := range req.header {
		if len(values) != 1 || strings.Contains(values[0], "forged") {
			t.Errorf("%s: the header %s is %q, want one value, and not a forged one", req.runID, name, values)
		}
	}
}

// The hook's own headers replace those of a submitter. Only the headers that the options name are forwarded.
func TestAHooksOwnHeadersReplaceForwardedOnes(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	m := messageTo(to.URL).with(t, outbox.Options{
		Headers: map[string]string{"X-Static": "hook's"}, Forward: []string{"X-Static", "x-static", "X-Tenant", "X-Missing"},
	})
	m.Headers = encode(t, map[string]string{"X-Static": "submitter's", "x-static": "submitter's", "X-Tenant": "acme", "X-Other": "not forwarded"})
	a := sendOnce(t, allowing("127.0.0.1"), m)
	wantDelivered(t, "a message", a)
	for name, want := range map[string]string{"X-Static": "hook's", "X-Tenant": "acme", "X-Other": "", "X-Missing": ""} {
		if got := strings.Join(to.last(t).header.Values(name), ", "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if a.Note != "" {
		t.Errorf("the note is %q, want none", a.Note)
	}
}

func TestARunIDThatHTTPForbidsIsLeftOutOfTheRequest(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	m := messageTo(to.URL)
	m.RunID = "run\r\nWebhook-Id: forged"
	a := sendOnce(t, allowing("127.0.0.1"), m)
	wantDelivered(t, "a message", a)
	if got := to.last(t); got.id != m.ID.String() || len(got.header["Webhook-Id"]) != 1 || got.runID != "" {
		t.Errorf("the receiver got the headers %v, want the id and no run id", got.header)
	}
	if !strings.Contains(a.Note, "Workflow-Run-Id") {
		t.Errorf("the note is %q, want Workflow-Run-Id in it", a.Note)
	}
}

// A row that was written by hand, or by a newer writer, may have options that this version cannot read. Then the worker sends
// no request, because it would not be the one that the writer wanted.
func TestAMessageThatCannotBeReadIsBlocked(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	s := newSender(t, allowing("127.0.0.1"))
	for options, says := range map[string]string{
		`{"timeout_ms": "soon"}`:                      "options of the message",
		`{"timeout_ms": 1e30}`:                        "options of the message",
		`{"timeout_ms": 1.5}`:                         "options of the message",
		`{"timeout_ms": {}}`:                          "options of the message",
		`{"headers": ["X-A"]}`:                        "options of the message",
		`{"headers": {"X-A": 1}}`:                     "options of the message",
		`{"forward": "X-A"}`:                          "options of the message",
		`{"forward": {"a": 1}}`:                       "options of the message",
		`{"forward": [1, 2]}`:                         "options of the message",
		`{"method": 7}`:                               "options of the message",
		`{"method": "DELETE"}`:                        "method",
		`{"method": "GET"}`:                           "method",
		`{"method": "post"}`:                          "method",
		`{"method": "POST /admin HTTP/1.1\r\nX: y"}`:  "method",
		`{"format": "avro"}`:                          "format",
		`{"format": {"a": 1}}`:                        "options of the message",
		`{"content_type": "text/plain\r\nX: forged"}`: "content_type",
		`[]`: "options of the message",
	} {
		m := messageTo(to.URL)
		m.Options = []byte(options)
		if a := s.Send(t.Context(), m); a.Class != ClassBlocked || !strings.Contains(a.Err, says) || a.StartedAt.IsZero() {
			t.Errorf("%s: %s, want class %s and %q in the error", options, describe(a), ClassBlocked, says)
		}
	}
	for _, headers := range []string{`{"X-A": [1]}`, `{"X-A": 5}`, `{"X-A": {"deep": []}}`, `["X-A"]`} {
		m := messageTo(to.URL)
		m.Headers = []byte(headers)
		if a := s.Send(t.Context(), m); a.Class != ClassBlocked || !strings.Contains(a.Err, "headers of the message") {
			t.Errorf("%s: %s, want class %s and an error about the headers", headers, describe(a), ClassBlocked)
		}
	}
	if n := len(to.requests()); n != 0 {
		t.Errorf("the receiver got %d requests, want none", n)
	}
}

// Options that can be read but are out of bounds do no harm: the worker sends the request without them. It ignores unknown
// keys.
func TestOptionsThatAreOutOfBoundsDoNoHarm(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	s := newSender(t, allowing("127.0.0.1"))
	for what, options := range map[string]string{
		"a negative timeout":     `{"timeout_ms": -5}`,
		"a timeout of ages":      `{"timeout_ms": 9223372036854775807}`,
		"a bad traceparent":      `{"traceparent": "00-x\r\nX-Injected: 1"}`,
		"a source with a break":  `{"format": "cloudevents", "source": "a\r\nX-Injected: 1"}`,
		"bad headers":            `{"headers": {"X-Bad": "a\r\nX-Injected: 1", "bad name": "b", "": "c", "Webhook-Id": "forged"}}`,
		"headers to forward":     `{"forward": ["nobody", "", "Webhook-Id", "callback_url"]}`,
		"nothing":                `{}`,
		"null":                   `null`,
		"nulls":                  `{"method": null, "headers": null, "timeout_ms": null, "forward": null}`,
		"an empty content type":  `{"content_type": ""}`,
		"a strange content type": `{"content_type": "a thing"}`,
		"unknown keys":           `{"priority": 9, "shape": {"a": [1]}}`,
	} {
		m := messageTo(to.URL)
		m.Options = []byte(options)
		wantDelivered(t, what, s.Send(t.Context(), m))
		got := to.last(t)
		if got.header.Get("X-Injected") != "" || got.header.Get("X-Bad") != "" || got.header.Get("Traceparent") != "" || got.id != m.ID.String() || got.method != http.MethodPost {
			t.Errorf("%s: the receiver got %s with the headers %v, want a POST without the invalid options", what, got.method, got.header)
		}
	}
}

// An invalid URL gets no request.
func TestAnInvalidURLGetsNoRequest(t *testing.T) {
	t.Parallel()
	s := newSender(t, allowing("127.0.0.1"))
	for _, url := range []string{"", "http://[::1", "http://%zz", "http://", "ftp://a.test", "not a url\x7f", "//a.test", "https:a"} {
		if a := s.Send(t.Context(), messageTo(url)); a.Err == "" || a.StatusCode != 0 || a.Class == ClassDelivered {
			t.Errorf("%q: %s, want an error without a status", url, describe(a))
		}
	}
}

// TestTheRecordOfAnAttemptIsShort: a submitter can name any number of headers, and a row that was written by hand can have any
// options. The texts that the worker records of an attempt stay short all the same.
func TestTheRecordOfAnAttemptIsShort(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	s := newSender(t, allowing("127.0.0.1"))
	headers, forward := map[string]string{}, []string{}
	for i := range 3000 {
		name := fmt.Sprintf("bad header %d %s", i, strings.Repeat("x", 20))
		headers[name], forward = "v", append(forward, name)
	}
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, c := range map[string]struct{ options, headers []byte }{
		"headers":     {encode(map[string]any{"forward": forward}), encode(headers)},
		"options":     {[]byte(`{"method": {"` + strings.Repeat("x", 100_000) + `": 1}}`), nil},
		"signing key": {encode(map[string]any{"signing_key": strings.Repeat("x", 100_000)}), nil},
	} {
		m := messageTo(to.URL)
		m.Options, m.Headers = c.options, c.headers
		a := s.Send(t.Context(), m)
		if n := len(a.Note) + len(a.Err) + len(a.WaitsFor); n == 0 || n > noteBytesMax+100 {
			t.Errorf("%s: the texts have %d bytes, want 1 to %d: %.80q %.80q %.80q", name, n, noteBytesMax+100, a.Note, a.Err, a.WaitsFor)
		}
	}
}

func TestTheSameSpellingOfAHeaderIsSentEachTime(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	s := newSender(t, allowing("127.0.0.1"))
	m := messageTo(to.URL)
	m.Options = []byte(`{"headers": {"X-A": "upper", "x-a": "lower"}}`)
	for range 20 {
		if a := s.Send(t.Context(), m); a.Class != ClassDelivered {
			t.Fatalf("%s, want a delivery", describe(a))
		}
	}
	for _, got := range to.requests() {
		if v := got.header.Get("X-A"); v != "lower" {
			t.Errorf("X-A is %q, want lower", v)
		}
	}
}

// HTTP/1.1 drops the outer white space of a value, and HTTP/2 must not have it. So the worker drops it, and the note of the
// attempt says so.
func TestOuterWhiteSpaceIsTrimmedAndTheNoteSaysSo(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	m := messageTo(to.URL).forwarding(t, map[string]string{"X-A": " a\t", "X-B": "b", "X-Bad": "top-secret\n"})
	m.RunID = " run 1 "
	a := sendOnce(t, allowing("127.0.0.1"), m)
	wantDelivered(t, "a message", a)
	if got := to.last(t); got.runID != "run 1" || got.header.Get("X-A") != "a" {
		t.Errorf("the receiver got the run %q and X-A %q, want \"run 1\" and \"a\"", got.runID, got.header.Get("X-A"))
	}
	const want = `left out: header "X-Bad": byte 10 of the value is a control character; outer white space trimmed, which HTTP cannot carry: header "X-A"; header "Workflow-Run-Id"`
	if a.Note != want {
		t.Errorf("the note is\n%s, want\n%s", a.Note, want)
	}
}
