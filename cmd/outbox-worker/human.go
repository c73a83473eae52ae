package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// ago says how long before now a time was: "3m12s ago".
func ago(now, t time.Time) string {
	if far := farFrom(now, t); far != "" {
		return far
	}
	if d := now.Sub(t); d >= time.Second {
		return span(d) + " ago"
	}
	return "just now"
}

// until says how long after now a time is: "in 4m58s", or "now" when it has come.
func until(now, t time.Time) string {
	if far := farFrom(now, t); far != "" {
		return far
	}
	if d := t.Sub(now); d > 0 {
		return "in " + span(d)
	}
	return "now"
}

// farFrom names a time that this program never writes, because its distance says nothing: one beyond the bounds within which
// times are read (such as an infinite one), or more than a century away.
func farFrom(now, t time.Time) string {
	const century = 100 * 365 * 24 * time.Hour
	switch {
	case !t.After(sqltime.Min):
		return "in 1970 or before"
	case !t.Before(sqltime.Max):
		return "in the year 9999 or later"
	case t.Sub(now) > century:
		return fmt.Sprintf("in the year %d", t.Year())
	}
	return ""
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(large, small time.Duration, l, s string) string {
		d = d.Truncate(small)
		if rest := d % large; rest > 0 {
			return fmt.Sprintf("%d%s%d%s", d/large, l, rest/small, s)
		}
		return fmt.Sprintf("%d%s", d/large, l)
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return two(time.Minute, time.Second, "m", "s")
	case d < day:
		return two(time.Hour, time.Minute, "h", "m")
	}
	return two(day, time.Hour, "d", "h")
}

// plainDuration writes a duration as time.ParseDuration reads it, without the zeros at its end.
func plainDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// grouped writes a count with a comma between thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// plural writes a count and its noun: "1 message", "2 messages".
func plural(n int64, noun string) string { return counted(n, noun, noun+"s") }

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// wrapped breaks text between words into lines of at most this many bytes, as far as possible.
func wrapped(text string, bytesMax int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > bytesMax {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// cell makes one cell of a table: printable, on one line, and of at most this many runes.
func cell(text string, runesMax int) string {
	runes := []rune(printable(strings.Join(strings.Fields(text), " ")))
	if len(runes) <= runesMax {
		return string(runes)
	}
	return string(runes[:runesMax-1]) + "…"
}

// printable escapes control characters, which could change the terminal of the operator: much of what we print was written by
// others.
func printable(text string) string {
	return printableBut(text, "")
}

// printableText is printable for text of several lines.
func printableText(text string) string {
	return printableBut(text, "\n\t")
}

func printableBut(text, keep string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) || strings.ContainsRune(keep, r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
