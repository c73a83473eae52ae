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

// forwarding returns the message of a run with these headers, all of which the hook forwards.
func (m Message) forwarding(t testing.TB, headers map[string]string) Message {
	t.Helper()
	m.Headers = encode(t, headers)
	return m.with(t, outbox.Options{Forward: slices.Sorted(maps.Keys(headers))})
}

func TestTheRequestSaysTheOutcome(t *testing.T) {
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
			t.Errorf("run %q: got %+v", c.runID, req)
		}
		if got := req.header.Get("Content-Type"); got != c.contentType {
			t.Errorf("run %q: Content-Type %q, want %q", c.runID, got, c.contentType)
		}
		if got := req.header.Get("User-Agent"); got != "Epilogue" {
			t.Errorf("run %q: User-Agent %q", c.runID, got)
		}
		if at, err := strconv.ParseInt(req.header.Get("webhook-timestamp"), 10, 64); err != nil || at < before || at > after {
			t.Errorf("run %q: webhook-timestamp %d, want %d to %d (%v)", c.runID, at, before, after, err)
		}
		if req.header.Get("X-Tenant") != "" || req.header.Get("callback_url") != "" {
			t.Errorf("run %q: headers of the run that nobody forwards are sent: %v", c.runID, req.header)
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
		t.Errorf("%d bytes arrived of %d", len(got), len(m.Body))
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
		t.Errorf("Host is %q", got.host)
	}
	for _, name := range leftOut {
		if !strings.Contains(a.Note, name) {
			t.Errorf("the note does not name %q: %s", name, a.Note)
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
			t.Errorf("%s: %s is %q", req.runID, name, values)
		}
	}
}

// The hook's own headers replace those of a submitter, and only the headers that the options name are forwarded.
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
		t.Errorf("the note is %q", a.Note)
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
		t.Errorf("the receiver got %v", got.header)
	}
	if !strings.Contains(a.Note, "Workflow-Run-Id") {
		t.Errorf("the note is %q", a.Note)
	}
}

// A row that was written by hand, or by a newer writer, may hold options that this version cannot read. Then no request is
// sent, because it would not be the one that was asked for.
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
			t.Errorf("%s: %s, want it to say %q", options, describe(a), says)
		}
	}
	for _, headers := range []string{`{"X-A": [1]}`, `{"X-A": 5}`, `{"X-A": {"deep": []}}`, `["X-A"]`} {
		m := messageTo(to.URL)
		m.Headers = []byte(headers)
		if a := s.Send(t.Context(), m); a.Class != ClassBlocked || !strings.Contains(a.Err, "headers of the message") {
			t.Errorf("%s: %s", headers, describe(a))
		}
	}
	if n := len(to.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// Options that are readable and out of bounds do no harm: the request is sent without them. Unknown keys are ignored.
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
			t.Errorf("%s: %s %v", what, got.method, got.header)
		}
	}
}

// A URL that is not one gets no request.
func TestAURLThatIsNotOneGetsNoRequest(t *testing.T) {
	t.Parallel()
	s := newSender(t, allowing("127.0.0.1"))
	for _, url := range []string{"", "http://[::1", "http://%zz", "http://", "ftp://a.test", "not a url\x7f", "//a.test", "https:a"} {
		if a := s.Send(t.Context(), messageTo(url)); a.Err == "" || a.StatusCode != 0 || a.Class == ClassDelivered {
			t.Errorf("%q: %s", url, describe(a))
		}
	}
}

// TestAStrangersTextsAreShort: a submitter names as many headers as they like, and somebody may write any options by hand.
// What is kept of an attempt stays small.
func TestAStrangersTextsAreShort(t *testing.T) {
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
			t.Errorf("%s: %d bytes are kept of it: %.80q %.80q %.80q", name, n, a.Note, a.Err, a.WaitsFor)
		}
	}
}

// TestOfTwoSpellingsOfAHeaderTheSameOneWinsEachTime.
func TestOfTwoSpellingsOfAHeaderTheSameOneWinsEachTime(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	s := newSender(t, allowing("127.0.0.1"))
	m := messageTo(to.URL)
	m.Options = []byte(`{"headers": {"X-A": "upper", "x-a": "lower"}}`)
	for range 20 {
		if a := s.Send(t.Context(), m); a.Class != ClassDelivered {
			t.Fatalf("%+v", a)
		}
	}
	for _, got := range to.requests() {
		if v := got.header.Get("X-A"); v != "lower" {
			t.Errorf("X-A is %q", v)
		}
	}
}

// HTTP/1.1 drops the outer white space of a value, and HTTP/2 must not have it. So it is dropped here, and the attempt says so.
func TestOuterWhiteSpaceIsTrimmedAndTheNoteSaysSo(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	m := messageTo(to.URL).forwarding(t, map[string]string{"X-A": " a\t", "X-B": "b", "X-Bad": "top-secret\n"})
	m.RunID = " run 1 "
	a := sendOnce(t, allowing("127.0.0.1"), m)
	wantDelivered(t, "a message", a)
	if got := to.last(t); got.runID != "run 1" || got.header.Get("X-A") != "a" {
		t.Errorf("run %q, X-A %q", got.runID, got.header.Get("X-A"))
	}
	const want = `left out: header "X-Bad": byte 10 of the value is a control character; outer white space trimmed, which HTTP cannot carry: header "X-A"; header "Workflow-Run-Id"`
	if a.Note != want {
		t.Errorf("the note says\n%s, want\n%s", a.Note, want)
	}
}
