package outbox

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// asciiJSON escapes what is not ASCII in JSON, so that its bytes mean the same in every encoding.
func asciiJSON(text string) string {
	if cleantext.IsASCII(text) {
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
