package outbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// CheckHeader reports a header that HTTP forbids (RFC 9110, sections 5.1 and 5.5): a name that is not a token, a value
// with a control character other than the tab.
func CheckHeader(key, value string) error {
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

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// keepHeaders returns headers that the tables can hold. Those that do not fit into HeadersBytesMax, in the order of their
// names, are left out, and the fault says how large all of them were.
func keepHeaders(headers map[string]string) (kept map[string]string, fault string) {
	clean := cleanHeaders(headers)
	size := len(mustJSON(clean))
	if size <= HeadersBytesMax {
		return clean, ""
	}
	kept, bytes := map[string]string{}, len("{}")
	for _, key := range sortedKeys(clean) {
		pair := len(mustJSON(map[string]string{key: clean[key]})) - 1 // its braces, less the comma
		if bytes+pair <= HeadersBytesMax {
			kept[key], bytes = clean[key], bytes+pair
		}
	}
	return kept, fmt.Sprintf("headers: %d bytes as JSON, the limit is %d; those that fit are kept", size, HeadersBytesMax)
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and our own structs always encode
	}
	return string(text)
}

// CheckHeadersSize reports headers that take more than [HeadersBytesMax] as JSON.
func CheckHeadersSize(headers map[string]string) error {
	if n := len(mustJSON(cleanHeaders(headers))); n > HeadersBytesMax {
		return fmt.Errorf("headers: %d bytes as JSON, the limit is %d", n, HeadersBytesMax)
	}
	return nil
}

// ReservedHeaders lists the headers that only the worker, or HTTP itself, sets. All that begin with Ce- are CloudEvents'.
func ReservedHeaders() []string {
	return []string{
		"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host",
		"Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Traceparent", "Tracestate", "Trailer",
		"Transfer-Encoding", "Upgrade", "User-Agent", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp",
		"Workflow-Run-Id", "Workflow-Run-Status",
	}
}

// ReservedHeader reports whether a header is reserved: nothing that a submitter or a hook supplies replaces it or adds
// to it. Names are compared without regard to case, and with _ taken for -, as CGI does.
func ReservedHeader(name string) bool {
	name = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	return strings.HasPrefix(name, "Ce-") || slices.Contains(ReservedHeaders(), name)
}

// sensitiveHeaders are those that a receiver, or a proxy before it, may trust: credentials, the signature of another sender,
// the origin of a request, and another method. A trailing * stands for any ending.
var sensitiveHeaders = []string{
	"Authorization", "Cookie", "Set-Cookie", "Svix-*", "Forwarded", "X-Forwarded-*",
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
}

// SensitiveHeader reports whether a pattern of headers to forward leaves this header out: a receiver may trust the header, and
// the pattern does not name it. "Authorization" and "X-Forwarded-*" name headers; "*" and "X-*" do not.
func SensitiveHeader(name, pattern string) bool {
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
