package callback_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
)

func TestTheEndpointIsTheOriginOfTheURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://example.com":                    "https://example.com",
		"https://example.com/":                   "https://example.com",
		"https://example.com/a/b?token=s#f":      "https://example.com",
		"http://example.com/a":                   "http://example.com",
		"HTTPS://EXAMPLE.com/A":                  "https://example.com",
		"https://example.com:443/a":              "https://example.com",
		"http://example.com:80/a":                "http://example.com",
		"https://example.com:80/a":               "https://example.com:80",
		"http://example.com:443/a":               "http://example.com:443",
		"https://example.com:08443/a":            "https://example.com:8443",
		"https://example.com:/a":                 "https://example.com",
		"https://example.com:1":                  "https://example.com:1",
		"https://example.com:65535":              "https://example.com:65535",
		"https://example.com./a":                 "https://example.com",
		"https://example.com.:8443/a":            "https://example.com:8443",
		"http://localhost:8080/hook":             "http://localhost:8080",
		"http://my_service/hook":                 "http://my_service",
		"http://127.0.0.1:8080/":                 "http://127.0.0.1:8080",
		"https://[::1]/a":                        "https://[::1]",
		"https://[::1]:443/a":                    "https://[::1]",
		"https://[::1]:8443/a":                   "https://[::1]:8443",
		"https://[2001:DB8:0:0::0001]/a":         "https://[2001:db8::1]",
		"https://münchen.example/a":              "https://xn--mnchen-3ya.example",
		"https://m%C3%BCnchen.example/a":         "https://xn--mnchen-3ya.example",
		"https://MÜNCHEN.example/a":              "https://xn--mnchen-3ya.example",
		"https://mu\u0308nchen.example/a":        "https://xn--mnchen-3ya.example",
		"https://mün\u00adchen。example":          "https://xn--mnchen-3ya.example",
		"https://straße.example":                 "https://xn--strae-oqa.example",
		"https://日本語。ＪＰ/":                        "https://xn--wgv71a119e.jp",
		"https://ｅｘａｍｐｌｅ.com":                    "https://example.com",
		"http://[::ffff:127.0.0.1]:81/":          "http://127.0.0.1:81",
		"http://[::FFFF:7f00:1]/":                "http://127.0.0.1",
		"http://１２７.０.０.１/":                      "http://127.0.0.1",
		"http://127。0。0。1/":                      "http://127.0.0.1",
		"http://127.0.0.1./":                     "http://127.0.0.1",
		"http://1.2.3.4.example/":                "http://1.2.3.4.example",
		"https://xn--mnchen-3ya.example":         "https://xn--mnchen-3ya.example",
		"https://" + strings.Repeat("a.", 126):   "https://" + strings.Repeat("a.", 125) + "a",
		"https://a/" + strings.Repeat("x", 2038): "https://a",
		"https://example.com?no=path":            "https://example.com",
		"https://example.com/%00%ff":             "https://example.com",
	} {
		if got, err := callback.Check(url); got != want || err != nil {
			t.Errorf("CheckURL(%.60q) returns %q, %v; want %q", url, got, err, want)
		}
	}
}

// undeliverable maps URLs to which nothing can ever be delivered to a part of the error for each.
var undeliverable = map[string]string{
	"":                                "relative",
	"/hook?secret":                    "relative",
	"//example.com/secret":            "relative",
	"example.com/secret":              "relative",
	"secret":                          "relative",
	"?secret":                         "relative",
	"ftp://example.com/secret":        `scheme "ftp"`,
	"javascript:alert(secret)":        `scheme "javascript"`,
	"file:///secret":                  `scheme "file"`,
	"localhost:8080/secret":           `scheme "localhost"`,
	"https://user:secret@example.com": "user name or password",
	"https://secret@example.com":      "user name or password",
	"https://@example.com/secret":     "user name or password",
	"https://":                        "host is empty",
	"https:///secret":                 "host is empty",
	"https:secret":                    "host is empty",
	"https://:8080/secret":            "host is empty",
	"https://./secret":                "not a name or an address",
	"https://a..b/secret":             "not a name or an address",
	"https://a../secret":              "not a name or an address",
	"https://a,b/secret":              "not a name or an address",
	"http://127.1/secret":             "ends in a number",
	"http://2130706433/secret":        "ends in a number",
	"http://0x7f.1/secret":            "ends in a number",
	"http://a.0x7F/secret":            "ends in a number",
	"http://127.0.0.01/secret":        "ends in a number",
	"http://127.0.0.256/secret":       "ends in a number",
	"http://１２７.１/secret":             "ends in a number",
	"https://" + strings.Repeat("a", 64) + ".de/secret":     "a part of the host has 64 bytes",
	"https://" + strings.Repeat("ü", 63) + ".de/secret":     "a part of the host has",
	"https://\u0308a.example/secret":                        "not a name or an address",
	"https://a\u200db.example/secret":                       "not a name or an address",
	"https://☃.example/secret":                              "not a name or an address",
	"https://a.example/?" + strings.Repeat("<secret>", 200): "once it is encoded",
	"https://a%FFb/secret":                                  "not a name or an address",
	"https://a\u2028b/secret":                               "not a name or an address",
	"https://exa mple.com/secret":                           "host is not valid",
	"https://example.com:0/secret":                          "port 0",
	"https://example.com:65536/secret":                      "port 65536",
	"https://example.com:99999999999/s":                     "port 99999999999 is not in 1 to 65535",
	"https://example.com:secret/":                           "port is not a number",
	"https://example.com:-1/secret":                         "port is not a number",
	"https://example.com/%zzsecret":                         "escape",
	"https://example.com/\x00secret":                        "control character",
	"https://example.com/\nsecret":                          "control character",
	"https://example.com/\x7fsecret":                        "control character",
	" https://example.com/secret":                           "not a URL",
	":secret":                                               "not a URL",
	"https://example.com/\xffsecret":                        "not valid UTF-8",
	"https://[::1/secret":                                   "not a URL",
	"https://[fe80::1%25eth0]/secret":                       "zone",
	"https://" + strings.Repeat("a.", 127) + "b/secret":     "host has 255",
	"https://secret/" + strings.Repeat("x", 2034):           "2049 bytes, the limit is 2048",
	strings.Repeat("secret", 1000):                          "6000 bytes, the limit is 2048",
	"https://example.com:" + strings.Repeat("1", 1000):      "is not in 1 to 65535",
	"https://" + strings.Repeat("secret", 100) + ".com":     "host has 604 bytes, the limit is 253",
}

func TestTheErrorOfAnUndeliverableURLHidesItsSecret(t *testing.T) {
	t.Parallel()
	for url, fault := range undeliverable {
		endpoint, err := callback.Check(url)
		switch {
		case err == nil || endpoint != "":
			t.Errorf("CheckURL(%.60q) returns %q, %v; want no endpoint and an error", url, endpoint, err)
		case !strings.Contains(err.Error(), fault):
			t.Errorf("CheckURL(%.60q) returns the error %q; want %q in it", url, err, fault)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("CheckURL(%.60q) returns an error that holds the secret: %v", url, err)
		case len(err.Error()) > 200:
			t.Errorf("CheckURL(%.60q) returns an error of %d bytes, want 200 at most", url, len(err.Error()))
		}
	}
}

// The rows, the claim and the health of endpoints compare endpoints as text: one endpoint must have one form.
func FuzzCheckURL(f *testing.F) {
	for _, url := range []string{
		"https://example.com:8443/a?b#c", "http://[2001:db8::1]:80/", "HTTPS://ÄÖ.example./", "https://[fe80::1%25en0]/",
		"https://a%FF/", "//x", "https://u:p@h", "https://h:0", "https://İ.example", "http://K.example",
		"http://１２７.0.0.1/?q=a b", "https://a.example/ü?x HTTP/1.0#`", "https://日本語。ＪＰ:443",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		endpoint, err := callback.Check(url)
		if err != nil {
			if endpoint != "" || !utf8.ValidString(err.Error()) {
				t.Errorf("CheckURL(%q) returns %q, %q; want no endpoint, and an error in valid UTF-8", url, endpoint, err)
			}
			return
		}
		normal, _, _ := callback.Normalize(url)
		if twice, same, err := callback.Normalize(normal); twice != normal || same != endpoint || err != nil {
			t.Errorf("%q becomes %q, and that becomes %q with the endpoint %q (%v); want no change and the endpoint %q", url, normal, twice, same, err, endpoint)
		}
		for _, c := range []byte(normal) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
				t.Errorf("%q becomes %q, which cannot be sent", url, normal)
			}
		}
		again, err := callback.Check(endpoint)
		if err != nil || again != endpoint {
			t.Errorf("the endpoint of %q is %q, and the endpoint of that is %q (%v); want the same", url, endpoint, again, err)
		}
		if !utf8.ValidString(endpoint) || strings.ContainsAny(endpoint, "\x00 \t\r\n") || len(endpoint) > 300 || len(url) > callback.BytesMax {
			t.Errorf("the endpoint of %q is %q, want valid UTF-8 without white space, and short", url, endpoint)
		}
	})
}
