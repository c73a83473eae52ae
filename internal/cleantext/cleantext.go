// Package cleantext turns any text into text that Postgres can store.
package cleantext

import (
	"strings"
	"unicode/utf8"
)

// Of returns the text with each NUL byte and each run of invalid UTF-8 replaced by U+FFFD. Clean text is returned as it is,
// without a copy.
func Of(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Cut returns the longest start of clean text that has at most this many bytes and ends with a whole character.
func Cut(text string, bytesMax int) string {
	if len(text) <= bytesMax {
		return text
	}
	for bytesMax > 0 && !utf8.RuneStart(text[bytesMax]) {
		bytesMax--
	}
	return text[:bytesMax]
}

// IsASCII reports whether the text has no other character.
func IsASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
