package delivery

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// newHeaderFile writes a file of header sets.
func newHeaderFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "headers")
	write(t, path, []byte(content))
	return path
}

// A receiver that wants an API key gets it, and the row holds only the name of the set. The worker sends nothing to an origin
// that the set does not list, not even without the headers.
func TestASecretHeaderIsSentToItsOriginsOnly(t *testing.T) {
	t.Parallel()
	to, other := newReceiver(t, nil), newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.SecretHeadersFile = newHeaderFile(t, "# of the CRM\n[crm]\norigin = https://crm.example\norigin="+strings.ToUpper(to.URL)+"/\n\nX-Api-Key: top-secret\nauthorization: Bearer a:b=c\n")
	s := newSender(t, c)
	options := outbox.Options{SecretHeaders: "crm", Headers: map[string]string{"X-Api-Key": "the hook's", "X-Own": "kept"}}
	wantDelivered(t, "its origin", s.Send(t.Context(), messageTo(to.URL+"/hook").with(t, options)))
	got := to.last(t).header
	if got.Get("X-Api-Key") != "top-secret" || got.Get("Authorization") != "Bearer a:b=c" || got.Get("X-Own") != "kept" || len(got["X-Api-Key"]) != 1 {
		t.Errorf("the receiver got the headers %v, want those of the set and X-Own", got)
	}
	a := s.Send(t.Context(), messageTo(other.URL).with(t, options))
	if a.Class != ClassBlocked || !strings.Contains(a.Err, "may not be sent to") || strings.Contains(a.Err, "top-secret") || len(other.requests()) != 0 {
		t.Errorf("another origin got %d requests, want none: %s, want class %s", len(other.requests()), describe(a), ClassBlocked)
	}
	wantDelivered(t, "another origin, without the set", s.Send(t.Context(), messageTo(other.URL)))
	if got := other.last(t).header.Get("X-Api-Key"); got != "" {
		t.Errorf("another origin got the key %q, want none", got)
	}
}

func TestAMessageWaitsForItsHeaderSet(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	m := messageTo(to.URL).with(t, outbox.Options{SecretHeaders: "crm"})
	c := allowing("127.0.0.1")
	if a := sendOnce(t, c, m); a.Class != "" || !strings.Contains(a.WaitsFor, `header set "crm"`) {
		t.Errorf("without a file: %s, want that the message waits", describe(a))
	}
	path := newHeaderFile(t, "")
	c.SecretHeadersFile = path
	s := newSender(t, c)
	if a := s.Send(t.Context(), m); a.Class != "" || !strings.Contains(a.WaitsFor, `header set "crm"`) {
		t.Errorf("with an empty file: %s, want that the message waits", describe(a))
	}
	write(t, path, []byte("[crm]\norigin = "+to.URL+"\nX-Api-Key top-secret\n"))
	if files := s.Reread(); len(files) != 1 || files[0].Name != "SecretHeadersFile" || files[0].Err == nil {
		t.Errorf("the report of a wrong file is %v, want an error", files)
	}
	if a := s.Send(t.Context(), m); !strings.Contains(a.WaitsFor, "line 3") || strings.Contains(a.WaitsFor, "top-secret") {
		t.Errorf("with a wrong file: %s, want that the message waits and names line 3", describe(a))
	}
	if n := len(to.requests()); n != 0 {
		t.Errorf("the receiver got %d requests without their headers, want none", n)
	}
	write(t, path, []byte("[crm]\norigin = "+to.URL+"\nX-Api-Key: top-secret\n"))
	if files := s.Reread(); files[0].Err != nil {
		t.Error(files[0].Err)
	}
	wantDelivered(t, "with its set", s.Send(t.Context(), m))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if files := s.Reread(); files[0].Err == nil {
		t.Error("the report of a removed file has no error, want one")
	}
	wantDelivered(t, "with the set that was in force", s.Send(t.Context(), m))
}

func TestAHeaderFileMayBeginWithAByteOrderMark(t *testing.T) {
	t.Parallel()
	sets, err := parseHeaderSets("\uFEFF[a]\norigin = https://a.example\nX-Key: top-secret\n")
	if err != nil || sets["a"].headers["X-Key"] != "top-secret" {
		t.Errorf("got the sets %v, %v; want the set a", sets, err)
	}
}

func TestAFaultOfAHeaderFileNamesItsLineAndNoSecret(t *testing.T) {
	t.Parallel()
	const set = "[a]\norigin = https://a.example\nX-Key: top-secret\n"
	for content, says := range map[string]string{
		"X-Key: top-secret\n":             "line 1: stands before the first set",
		"[a\n":                            "line 1: is not the beginning of a set",
		"[]\n":                            "line 1: is not the beginning",
		"[a b]\n":                         "line 1: is not the beginning",
		set + set:                         `line 4: set "a" begins a second time`,
		"[a]\nX-Key: top-secret\n":        `set "a" has 0 origins`,
		"[a]\norigin = https://a.test\n":  `set "a" has 1 origins and 0 headers`,
		"[a]\norigin = a.test\n":          "line 2: url: relative",
		"[a]\norigin = https://a.test/b":  "line 2: want the origin alone: https://a.test",
		"[a]\norigin = https://u@a.test":  "line 2: url: holds a user",
		set + "top-secret\n":              "line 4: is neither",
		set + "top secret: x\n":           "line 4: is not a header",
		set + "X-Other:\n":                "line 4: is not a header",
		set + "x-key: top-secret\n":       `line 4: header "x-key" stands in its set twice`,
		set + "Webhook-Id: top-secret\n":  "line 4: header \"Webhook-Id\" is set by the worker only",
		set + "X-Bad: top-secret\x01\n":   "line 4: is not a header",
		set + "[b]\norigin = https://b.t": `set "b" has 1 origins and 0 headers`,
	} {
		if _, err := parseHeaderSets(content); err == nil || !strings.HasPrefix(err.Error(), says) || strings.Contains(err.Error(), "top-secret") {
			t.Errorf("%q: the error is %v; want %q", content, err, says)
		}
	}
	c := allowing()
	c.SecretHeadersFile = "/nowhere/headers"
	if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "SecretHeadersFile: ") {
		t.Errorf("a missing file: the error is %v, want one of SecretHeadersFile", err)
	}
}
