package main

import (
	"testing"
	"time"
)

func TestAgesAreShownInTwoUnits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Minute: "just now", 0: "just now", 999 * time.Millisecond: "just now", time.Second: "1s ago",
		192 * time.Second: "3m12s ago", 3 * time.Minute: "3m ago", 2*time.Hour + 5*time.Minute + 9*time.Second: "2h5m ago",
		76 * time.Hour: "3d4h ago", 72*time.Hour + time.Minute: "3d ago",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v is shown as %q, want %q", d, got, want)
		}
	}
	if got := until(now, now.Add(298*time.Second)); got != "in 4m58s" {
		t.Errorf("got %q", got)
	}
	if got := until(now, now.Add(-time.Second)); got != "now" {
		t.Errorf("got %q", got)
	}
}

func TestAShownDurationCanBeParsed(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m",
		168 * time.Hour: "168h", 1500 * time.Millisecond: "1.5s", 0: "0s", 20 * time.Second: "20s",
	} {
		got := plainDuration(d)
		if back, err := time.ParseDuration(got); got != want || err != nil || back != d {
			t.Errorf("%v is shown as %q, want %q", d, got, want)
		}
	}
}

func TestControlCharactersOfMessagesDoNotReachTheTerminal(t *testing.T) {
	t.Parallel()
	const nasty = "a\x1b[31mred\x07\u202eb\r\nc\t\x00é☃\xff"
	if got, want := printable(nasty), `a\x1b[31mred\a\u202eb\r\nc\t\x00é☃`+"\uFFFD"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := printableText("a\n\tb\x1b"), "a\n\tb\\x1b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := cell("one\n two\tthree four", 9), "one two …"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCountsAreGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if plural(1, "message") != "1 message" || plural(2000, "message") != "2,000 messages" {
		t.Error("plural(1) and plural(2000) are not \"1 message\" and \"2,000 messages\"")
	}
}

func TestTheNearestWordDiffersByATypingMistakeOnly(t *testing.T) {
	t.Parallel()
	known := []string{"list", "status", "replay", "resume"}
	for word, want := range map[string]string{"lsit": "list", "stauts": "status", "re": "replay", "": "", "elephant": "", "rplay": "replay"} {
		if got := nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
