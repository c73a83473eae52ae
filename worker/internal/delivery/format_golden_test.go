package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// goldenID was made at 2024-07-15T18:26:25.982Z.
const goldenID = "0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10"

// goldenMessage is a message whose request is the same on every run.
func goldenMessage(t testing.TB, url string, status outbox.TerminalStatus, body string, o outbox.Options) Message {
	t.Helper()
	id, err := outbox.ParseID(goldenID)
	if err != nil {
		t.Fatal(err)
	}
	return Message{ID: id, RunID: `run 7/"ü"%`, Status: status, Body: []byte(body), URL: url}.with(t, o)
}

// sent returns the text of a whole request, without the host and the time of the attempt, which differ from run to run.
func sent(got request) string {
	var lines []string
	for name, values := range got.header {
		for _, value := range values {
			if name == "Webhook-Timestamp" {
				value = "NOW"
			}
			lines = append(lines, name+": "+value)
		}
	}
	slices.Sort(lines)
	body := got.body
	if !utf8.ValidString(body) {
		body = fmt.Sprintf("%x, in hexadecimal", body)
	}
	return fmt.Sprintf("%s %s\n%s\n\n%s", got.method, got.path, strings.Join(lines, "\n"), body)
}

// goldenOutcomes are one outcome of each kind that the formats treat differently.
var goldenOutcomes = []struct {
	what   string
	status outbox.TerminalStatus
	body   string
}{
	{"a JSON result", outbox.Succeeded, `{"a": 1.50, "b":"<ü>"}`},
	{"a JSON scalar", outbox.Succeeded, "null"},
	{"a text", outbox.Succeeded, "grüße <&>\n"},
	{"no result", outbox.Succeeded, ""},
	{"octets", outbox.Succeeded, "\xff\x00\x01"},
	{"JSON but for its UTF-8", outbox.Succeeded, "\"\xff\""},
	{"a failure", outbox.Failed, `step 3: "disk" is full`},
	{"a failure that looks like JSON", outbox.Failed, `{"code":1}`},
	{"a cancellation", outbox.Cancelled, "by ü"},
	{"a cancellation from outside", outbox.Cancelled, ""},
}

// rewriteGolden is the environment variable that makes the test write the golden file.
const rewriteGolden = "EPILOGUE_WRITE_GOLDEN"

// Receivers depend on every byte of a request. testdata/requests.golden shows one request of each kind.
func TestTheRequestsAreThoseOfTheGoldenFile(t *testing.T) {
	t.Parallel()
	to, s := newReceiver(t, nil), newSender(t, allowing("127.0.0.1"))
	var all strings.Builder
	options := []outbox.Options{
		{}, {Format: outbox.FormatRaw, Method: "PUT", ContentType: `application/vnd.acme+json; v="1"`},
		{Format: outbox.FormatEnvelope, Headers: map[string]string{"X-Static": "ü, and more"}},
		{Format: outbox.FormatCloudEvents, Method: "PATCH", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		{Format: outbox.FormatCloudEvents, Source: "https://acme.example/ä%20b", ContentType: "text/x-acme"},
	}
	for _, outcome := range goldenOutcomes {
		for _, o := range options {
			wantDelivered(t, outcome.what, s.Send(t.Context(), goldenMessage(t, to.URL+"/hook", outcome.status, outcome.body, o)))
			fmt.Fprintf(&all, "## %s, %s\n\n%s\n\n", outcome.what, encode(t, o), sent(to.last(t)))
		}
	}
	path := filepath.Join("testdata", "requests.golden")
	if os.Getenv(rewriteGolden) != "" {
		if err := os.WriteFile(path, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("the requests are not those of %s (%s=1 writes the file, so that you can read the difference):\n%s", path, rewriteGolden, firstDifference(all.String(), string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d:\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// Whatever the outcome is, its envelope is valid JSON and holds the same values.
func FuzzAnEnvelopeIsValidJSON(f *testing.F) {
	for _, outcome := range goldenOutcomes {
		f.Add(string(outcome.status), []byte(outcome.body), "run-1")
	}
	f.Add("succeeded", []byte(strings.Repeat("[", 9_000)+strings.Repeat("]", 9_000)), "deep")
	f.Add("succeeded", []byte(`{"a":1,"a":2,"\ud800":1e999}`), "odd")
	f.Fuzz(func(t *testing.T, status string, body []byte, runID string) {
		s, err := outbox.ParseTerminalStatus(status)
		if err != nil || !utf8.ValidString(runID) || s != outbox.Succeeded && !utf8.Valid(body) {
			t.Skip("no row can hold this")
		}
		m := Message{ID: outbox.NewID(), RunID: runID, Status: s, Body: body}
		text := envelope(m)
		var got struct {
			Type, Timestamp string
			Data            struct {
				RunID        string `json:"run_id"`
				Status       string
				Result       json.RawMessage
				ResultBase64 []byte `json:"result_base64"`
				Error        *string
			}
		}
		if err := json.Unmarshal(text, &got); err != nil || !utf8.Valid(text) {
			t.Fatalf("the envelope %.200q is not valid: %v", text, err)
		}
		if got.Data.RunID != runID || got.Data.Status != status || got.Type != "workflow.run."+status {
			t.Errorf("the envelope is %+v, want the run %q and the status %s", got, runID, status)
		}
		var as string
		switch {
		case s != outbox.Succeeded:
			if got.Data.Error == nil || *got.Data.Error != string(body) {
				t.Errorf("error %v, want %q", got.Data.Error, body)
			}
		case got.Data.ResultBase64 != nil:
			if !bytes.Equal(got.Data.ResultBase64, body) || utf8.Valid(body) {
				t.Errorf("the result in base64 is %q, want %q", got.Data.ResultBase64, body)
			}
		case !json.Valid(body):
			if err := json.Unmarshal(got.Data.Result, &as); err != nil || as != string(body) {
				t.Errorf("the result as text is %q, want %q", as, body)
			}
		default:
			var compact bytes.Buffer
			if err := json.Compact(&compact, body); err != nil || !sameJSON(got.Data.Result, compact.Bytes()) {
				t.Errorf("the result as JSON is %q, want %q", got.Data.Result, body)
			}
		}
	})
}

// sameJSON ignores whether <, > and & are escaped.
func sameJSON(a, b []byte) bool {
	var escaped bytes.Buffer
	json.HTMLEscape(&escaped, b)
	return bytes.Equal(a, escaped.Bytes())
}
