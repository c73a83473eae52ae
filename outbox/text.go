package outbox

import "strings"

// cleanText makes text that Postgres can carry: each NUL byte and each run of invalid UTF-8 becomes U+FFFD. It returns
// clean text as it is, without a copy.
func cleanText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// cleanHeaders cleans every key and value. Two keys that become equal keep the value of the one that sorts last.
func cleanHeaders(headers map[string]string) map[string]string {
	clean := make(map[string]string, len(headers))
	for _, key := range sortedKeys(headers) {
		clean[cleanText(key)] = cleanText(headers[key])
	}
	return clean
}
