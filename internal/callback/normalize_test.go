package callback_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
)

// TestAURLIsWrittenAsItIsSent: characters that HTTP does not allow are encoded, and those that are encoded stay as they
// are.
func TestAURLIsWrittenAsItIsSent(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://a.example":                             "https://a.example",
		"https://a.example/hook?x=1&y=%20%2F":           "https://a.example/hook?x=1&y=%20%2F",
		"https://a.example/?q=hello world":              "https://a.example/?q=hello%20world",
		"https://a.example/?x HTTP/1.0":                 "https://a.example/?x%20HTTP/1.0",
		"https://a.example/a b/\"<>\\^`{|}?\"<>\\^`{|}": "https://a.example/a%20b/%22%3C%3E%5C%5E%60%7B%7C%7D?%22%3C%3E%5C%5E%60%7B%7C%7D",
		"https://a.example/ü?ü=€":                       "https://a.example/%C3%BC?%C3%BC=%E2%82%AC",
		"https://a.example/a%2Fb%c3?[0]=1&a=%zz":        "https://a.example/a%2Fb%c3?[0]=1&a=%zz",
		"HTTPS://A.Example:443/P?Q":                     "https://a.example:443/P?Q",
		"https://a.example.:8443/":                      "https://a.example.:8443/",
		"https://MÜNCHEN.example?a":                     "https://xn--mnchen-3ya.example?a",
		"http://[::ffff:127.0.0.1]:81/":                 "http://127.0.0.1:81/",
		"https://a.example/?u=http://b.example/":        "https://a.example/?u=http://b.example/",
	} {
		if got, _, err := callback.Normalize(raw); got != want || err != nil {
			t.Errorf("%q becomes %q, %v; want %q", raw, got, err, want)
		}
	}
}

// net/http maps names by its own tables (UTS #46). Package callback may link only pgx and the standard library, so it cannot
// import them. Where both accept a letter, both must map it to the same name.
func TestNamesAreMappedAsNetHTTPDoes(t *testing.T) {
	t.Parallel()
	same, other := 0, map[rune]string{}
	for _, table := range []*unicode.RangeTable{unicode.L, unicode.M, unicode.N} {
		for _, r := range runesOf(table) {
			raw := "https://a" + string(r) + "b.example/"
			endpoint, err := callback.Check(raw)
			theirs, ok := hostOfNetHTTP(t, raw)
			switch {
			case err != nil || !ok:
			case r == 'ẞ': // ß since Unicode 15.1, ss before
			case endpoint == "https://"+strings.ToLower(theirs): // net/http leaves ASCII as it is
				same++
			default:
				other[r] = endpoint + " and " + theirs
			}
		}
	}
	t.Logf("%d characters map to the same name, %d do not", same, len(other))
	for r, what := range other {
		t.Errorf("%U: %s", r, what)
	}
	if same < 100_000 {
		t.Errorf("%d characters map to the same name, want 100000 at least", same)
	}
}

func runesOf(table *unicode.RangeTable) (runes []rune) {
	for _, r := range table.R16 {
		for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
			runes = append(runes, c)
		}
	}
	for _, r := range table.R32 {
		for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
			runes = append(runes, c)
		}
	}
	return runes
}

// hostOfNetHTTP returns the host that net/http dials. ok is false when it dials no host, or one that is not ASCII.
func hostOfNetHTTP(t *testing.T, raw string) (host string, ok bool) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialTLSContext: func(_ context.Context, _, address string) (net.Conn, error) {
		host, _, _ = net.SplitHostPort(address)
		return nil, errors.New("only the address is of interest")
	}}
	resp, err := transport.RoundTrip(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
	if err == nil {
		_ = resp.Body.Close()
	}
	return host, host != "" && !strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII })
}
