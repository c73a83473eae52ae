package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestATableFitsTheWidthOfItsTerminal(t *testing.T) {
	t.Parallel()
	lines := [][]string{
		{"ID", "STATE", "RUN", "ENDPOINT", "EMPTY", "LAST"},
		{"01a218e6-ec94-764e-a796-822471940945", "dead", "run-4711", "https://hooks.example.com:8443", "", "refused: answered 404 Not Found, which nobody expected"},
		{"01a218e6-ef60-7db7-ba4a-6bae3b5c048c", "pending", strings.Repeat("r", 40), "https://b.example", "", ""},
	}
	for width := 200; width >= 36; width-- {
		got := fitted(lines, width, []string{"RUN", "ENDPOINT"})
		for _, line := range got {
			if line[0] != "ID" && len(line[0]) != 36 {
				t.Fatalf("with %d columns an id is cut: %q", width, line)
			}
		}
		widths := shrunk(got, 1000, 1000)
		if most := max(width, 36+columnGap+columnMin+columnGap+columnMin); total(widths) > most {
			t.Fatalf("with %d columns the table takes %d: %q", width, total(widths), got)
		}
		for _, line := range got {
			for _, text := range line {
				if !utf8.ValidString(text) {
					t.Fatalf("the cut text %q is not valid UTF-8", text)
				}
			}
		}
	}
	if got := fitted(lines, 200, nil); len(got[0]) != 5 || got[1][4] != lines[1][5] {
		t.Errorf("with enough room the table is %q, want only the empty column left out", got)
	}
	if got := fitted(lines, 80, []string{"RUN", "ENDPOINT"}); strings.Join(got[0], " ") != "ID STATE ENDPOINT LAST" {
		t.Errorf("with 80 columns the table is %q, want the columns that have to stay, and LAST", got)
	}
}
