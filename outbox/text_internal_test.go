package outbox

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanTextReplacesWhatPostgresCannotCarry(t *testing.T) {
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
		if got := cleanText(text); got != want {
			t.Errorf("cleanText(%q) returns %q, want %q", text, got, want)
		}
	}
}

func FuzzCleanText(f *testing.F) {
	f.Add("a\x00b\xff\xfec")
	f.Add("plain ü 🎉")
	f.Fuzz(func(t *testing.T, text string) {
		clean := cleanText(text)
		if !utf8.ValidString(clean) || strings.Contains(clean, "\x00") {
			t.Errorf("cleanText(%q) returns %q", text, clean)
		}
		if again := cleanText(clean); again != clean {
			t.Errorf("cleanText(%q) returns %q, and of that %q", text, clean, again)
		}
		if utf8.ValidString(text) && !strings.Contains(text, "\x00") && clean != text {
			t.Errorf("cleanText changed %q to %q", text, clean)
		}
	})
}

func FuzzCutText(f *testing.F) {
	f.Add("plain ü 🎉", 60)
	f.Add(strings.Repeat("🎉", 100), 61)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		const least = 64 // more than the note takes
		if limit < least || limit > 1<<20 {
			return
		}
		text = cleanText(text)
		cut := cutText(text, limit)
		if len(cut) > limit || !utf8.ValidString(cut) || len(text) <= limit && cut != text {
			t.Errorf("cutText(%q, %d) returns %q", text, limit, cut)
		}
		if len(text) > limit && !strings.Contains(cut, "[cut: ") {
			t.Errorf("cutText(%q, %d) does not say so: %q", text, limit, cut)
		}
	})
}

func TestKeysThatBecomeEqualKeepTheLastOnesValue(t *testing.T) {
	t.Parallel()
	got := cleanHeaders(map[string]string{"k\x00": "1", "k\xff": "2", "k": "3"})
	if len(got) != 2 || got["k�"] != "2" || got["k"] != "3" {
		t.Errorf("cleanHeaders returns %q", got)
	}
}
