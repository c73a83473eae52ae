package outbox

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

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

// asciiJSON escapes what is not ASCII in JSON: it says the same, whatever encoding its bytes are taken for.
func asciiJSON(text string) string {
	if isASCII(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
