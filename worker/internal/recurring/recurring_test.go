package recurring

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// linesOf runs f with a log and a fake clock, and returns the lines that f logged.
func linesOf(t *testing.T, f func(*Log)) (lines []string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var text bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		f(l)
		l.Close()
		lines = strings.Split(strings.TrimSpace(text.String()), "\n")
	})
	return lines
}

func fail(l *Log, key string, n int) {
	l.Tell(context.Background(), slog.LevelError, key, "it failed", slog.String("key", key), slog.Int("n", n))
}

func TestAFaultThatRecursIsLoggedOnceAMinuteWithACount(t *testing.T) {
	t.Parallel()
	lines := linesOf(t, func(l *Log) {
		for n := range 300 { // for 150 s
			fail(l, "one", n)
			time.Sleep(500 * time.Millisecond)
		}
	})
	want := []string{
		`level=ERROR msg="it failed" key=one n=0`,
		`level=ERROR msg="it failed" key=one n=119 times=119`,
		`level=ERROR msg="it failed" key=one n=239 times=120`,
		`level=ERROR msg="it failed" key=one n=299 times=60`,
	}
	if len(lines) != len(want) || lines[0] != want[0] || !strings.HasPrefix(lines[1], `level=ERROR msg="it failed" key=one n=1`) {
		t.Errorf("got\n%s\nwant about\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	total := 1
	for _, line := range lines[1:] {
		var times int
		if _, err := fmt.Sscanf(line[strings.Index(line, "times="):], "times=%d", &times); err != nil {
			t.Error(err)
		}
		total += times
	}
	if total != 300 {
		t.Errorf("the lines count %d faults, want 300:\n%s", total, strings.Join(lines, "\n"))
	}
}

func TestAnotherFaultIsLoggedAtOnceAndAnOldOneIsNewAgain(t *testing.T) {
	t.Parallel()
	lines := linesOf(t, func(l *Log) {
		fail(l, "one", 1)
		fail(l, "two", 2)
		time.Sleep(2 * time.Minute)
		fail(l, "one", 3)
	})
	if len(lines) != 3 || strings.Contains(strings.Join(lines, ""), "times") {
		t.Errorf("got\n%s\nwant 3 lines, none with a count", strings.Join(lines, "\n"))
	}
}

func TestMoreKindsOfFaultsThanTheLimitShareALine(t *testing.T) {
	t.Parallel()
	lines := linesOf(t, func(l *Log) {
		for n := range 3 * keysMax {
			fail(l, fmt.Sprint(n), n)
		}
	})
	if len(lines) != keysMax+2 || !strings.HasSuffix(lines[keysMax+1], fmt.Sprintf("times=%d", 2*keysMax-1)) {
		t.Errorf("got %d lines, want %d; the last is %s, want it to count %d", len(lines), keysMax+2, lines[len(lines)-1], 2*keysMax-1)
	}
}
