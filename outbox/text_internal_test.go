package outbox

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

func FuzzCutText(f *testing.F) {
	f.Add("plain ü 🎉", 60)
	f.Add(strings.Repeat("🎉", 100), 61)
	f.Add(strings.Repeat("x", 64), 64)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		const least = 64 // more than the note takes
		if limit < least || limit > 1<<20 {
			return
		}
		text = cleantext.Of(text)
		cut := cutText(text, limit)
		if len(cut) > limit || !utf8.ValidString(cut) || len(text) <= limit && cut != text {
			t.Errorf("cutText(%q, %d) returns %q", text, limit, cut)
		}
		if len(text) > limit && !strings.Contains(cut, "[cut: ") {
			t.Errorf("cutText(%q, %d) does not say so: %q", text, limit, cut)
		}
	})
}
