package header_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/header"
)

func TestHeadersThatHTTPForbidsAreNamed(t *testing.T) {
	t.Parallel()
	const good = ""
	for _, c := range []struct{ key, value, fault string }{
		{"X-Tenant", "a", good},
		{"x_tenant", "", good},
		{"!#$%&'*+-.^_`|~09azAZ", "a", good},
		{"X", "tab\tand space ", good},
		{"X", "ümläut \xff", good}, // obs-text
		{"", "a", "header name is empty"},
		{"X Tenant", "a", `header "X Tenant": byte 1 of the name`},
		{"X:", "a", "byte 1 of the name"},
		{"Ü", "a", "byte 0 of the name"},
		{"X\x00", "a", "byte 1 of the name"},
		{"X\n", "a", "byte 1 of the name"},
		{"X", "a\nb", `header "X": byte 1 of the value`},
		{"X", "a\r", "byte 1 of the value"},
		{"X", "\x00", "byte 0 of the value"},
		{"X", "ab\x7f", "byte 2 of the value"},
	} {
		err := header.Check(c.key, c.value)
		switch {
		case c.fault == good && err != nil:
			t.Errorf("%q: %q: got the error %v, want none", c.key, c.value, err)
		case c.fault != good && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%q: %q: got the error %v, want %q", c.key, c.value, err, c.fault)
		}
	}
}

// FuzzCheck: Check must accept the headers that the HTTP client accepts, and no others.
func FuzzCheck(f *testing.F) {
	f.Add("X-Tenant", "a b\tc")
	f.Add("", "")
	f.Add("X Tenant", "ü")
	f.Add("X", "a\r\nY: b")
	sent := errors.New("sent")
	client := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, sent }}
	f.Fuzz(func(t *testing.T, key, value string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://receiver.example", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header[key] = []string{value}
		_, err = client.RoundTrip(request)
		if check := header.Check(key, value); (check == nil) != errors.Is(err, sent) {
			t.Errorf("%q: %q: Check returns %v, but net/http returns %v", key, value, check, err)
		}
	})
}

// TestASensitiveHeaderIsForwardedOnlyByItsName: a header that a receiver may trust needs a pattern that names it in full.
func TestASensitiveHeaderIsForwardedOnlyByItsName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "authorization", "Cookie", "Set-Cookie", "svix-id", "Svix-Signature", "svix_timestamp", "X-Forwarded-For", "x_forwarded_host",
		"Forwarded", "X-HTTP-Method-Override", "X-Http-Method", "X-Method-Override",
	} {
		for _, pattern := range []string{"*", name[:1] + "*", name[:3] + "*"} {
			if !header.Sensitive(name, pattern) {
				t.Errorf("the pattern %q forwards %s, want not", pattern, name)
			}
		}
		if header.Sensitive(name, strings.ToUpper(name)) {
			t.Errorf("its own name as a pattern does not forward %s", name)
		}
	}
	for name, pattern := range map[string]string{
		"svix-id": "svix-*", "Svix-Id": "SVIX-I*", "X-Forwarded-For": "x-forwarded-*", "X-Tenant": "*", "X-Forward": "X-*", "Authorization-Of": "*", "": "*",
	} {
		if header.Sensitive(name, pattern) {
			t.Errorf("the pattern %q does not forward %q", pattern, name)
		}
	}
}
