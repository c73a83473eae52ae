package cleantext

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextThatPostgresCannotStoreIsReplaced(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                "",
		"plain ü 🎉":       "plain ü 🎉",
		"a\x00b":          "a�b",
		"a\x00\x00b":      "a��b",
		"a\xffb":          "a�b",
		"a\xff\xfe\xfdb":  "a�b",
		"a\xff\x00\xffb":  "a���b",
		"\xed\xa0\x80":    "�", // half a surrogate pair
		"a\xf0\x9f\x8e":   "a�",
		"kept: \uFFFD":    "kept: �",
		"\x01\x1f\x7f\t ": "\x01\x1f\x7f\t ", // ugly, but text
	} {
		if got := Of(text); got != want {
			t.Errorf("Of(%q) returns %q, want %q", text, got, want)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("a\x00b\xff\xfec")
	f.Add("plain ü 🎉")
	f.Fuzz(func(t *testing.T, text string) {
		clean := Of(text)
		if !utf8.ValidString(clean) || strings.Contains(clean, "\x00") {
			t.Errorf("Of(%q) returns %q, want valid UTF-8 without NUL", text, clean)
		}
		if again := Of(clean); again != clean {
			t.Errorf("Of(%q) returns %q, and Of of that returns %q, want no change", text, clean, again)
		}
		if utf8.ValidString(text) && !strings.Contains(text, "\x00") && clean != text {
			t.Errorf("Of(%q) returns %q, want valid text unchanged", text, clean)
		}
	})
}

func FuzzCut(f *testing.F) {
	f.Add("plain ü 🎉", 9)
	f.Add("🎉🎉🎉", 5)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 0 || limit > 1<<20 {
			return
		}
		text = Of(text)
		cut := Cut(text, limit)
		if len(cut) > limit || !utf8.ValidString(cut) || !strings.HasPrefix(text, cut) || len(text) <= limit && cut != text {
			t.Errorf("Cut(%q, %d) returns %q, want a valid start of the text within the limit", text, limit, cut)
		}
		if len(text) > limit && len(cut) <= limit-utf8.UTFMax {
			t.Errorf("Cut(%q, %d) returns %q, which is shorter than necessary", text, limit, cut)
		}
	})
}
