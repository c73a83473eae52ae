// Package header holds the rules for headers that services and submitters supply.
package header

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// Check reports a header that HTTP forbids (RFC 9110, sections 5.1 and 5.5): a name that is not a token, a value
// with a control character other than the tab.
func Check(key, value string) error {
	if key == "" {
		return fmt.Errorf("header name is empty")
	}
	for i := range len(key) {
		if !isTokenByte(key[i]) {
			return fmt.Errorf("header %q: byte %d of the name is not allowed in a header name", key, i)
		}
	}
	for i := range len(value) {
		if b := value[i]; b < ' ' && b != '\t' || b == 0x7f {
			return fmt.Errorf("header %q: byte %d of the value is a control character", key, i)
		}
	}
	return nil
}

func isTokenByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// ReservedNames lists the headers that only the worker, or HTTP itself, sets. All that begin with Ce- are CloudEvents'.
func ReservedNames() []string {
	return []string{
		"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host",
		"Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Traceparent", "Tracestate", "Trailer",
		"Transfer-Encoding", "Upgrade", "User-Agent", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp",
		"Workflow-Run-Id", "Workflow-Run-Status",
	}
}

// Reserved reports whether a header is reserved: nothing that a submitter or a hook supplies replaces it or adds
// to it. Names are compared without regard to case, and with _ taken for -, as CGI does.
func Reserved(name string) bool {
	name = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	return strings.HasPrefix(name, "Ce-") || slices.Contains(ReservedNames(), name)
}

// sensitiveHeaders are those that a receiver, or a proxy before it, may trust: credentials, the signature of another sender,
// the origin of a request, and another method. A trailing * stands for any ending.
var sensitiveHeaders = []string{
	"Authorization", "Cookie", "Set-Cookie", "Svix-*", "Forwarded", "X-Forwarded-*",
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
}

// Sensitive reports whether a pattern of headers to forward leaves this header out: a receiver may trust the header, and
// the pattern does not name it. "Authorization" and "X-Forwarded-*" name headers; "*" and "X-*" do not.
func Sensitive(name, pattern string) bool {
	name, pattern = plainName(name), plainName(pattern)
	if name == pattern {
		return false
	}
	for _, sensitive := range sensitiveHeaders {
		start, open := strings.CutSuffix(plainName(sensitive), "*")
		if open && strings.HasPrefix(name, start) {
			return !strings.HasPrefix(pattern, start)
		}
		if name == start {
			return true
		}
	}
	return false
}

// plainName is a header's name as names are compared: in lower case, with _ taken for -, as CGI does.
func plainName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "-")) }
