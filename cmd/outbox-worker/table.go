package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"
)

// width is the number of columns of the terminal; 0 when stdout is not a terminal, or when it is unknown: then nothing is cut. COLUMNS
// sets it for an output that is not a terminal.
func (p *program) width() int {
	if n, err := strconv.Atoi(strings.TrimSpace(p.env["COLUMNS"])); err == nil && n > 0 {
		return n
	}
	file, ok := p.stdout.w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return n
}

// table prints rows in aligned columns, without trailing blanks. Where the terminal is too narrow, long cells are cut; then the
// columns in spare are left out, the first one first.
func (p *program) table(header []string, rows [][]string, spare ...string) {
	lines := append([][]string{header}, rows...)
	if width := p.width(); width > 0 {
		lines = fitted(lines, width, spare)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, columnGap, ' ', 0)
	for _, line := range lines {
		_, _ = w.Write([]byte(strings.Join(line, "\t") + "\n")) // a Builder never fails
	}
	_ = w.Flush()
	for line := range strings.Lines(text.String()) {
		p.printf("%s\n", strings.TrimRight(line, " \n"))
	}
}

const (
	columnGap    = 2
	columnLeast  = 12 // cells are cut to this many characters before a column is left out
	columnMin    = 4  // and to this many when no column can be left out
	columnNotCut = "ID"
)

// fitted shortens lines to a width, as far as that is possible. The first line is the header.
func fitted(lines [][]string, width int, spare []string) [][]string {
	lines = without(lines, func(c int) bool { // columns that hold nothing
		return c > 0 && !slices.ContainsFunc(lines[1:], func(line []string) bool { return line[c] != "" })
	})
	for _, name := range spare {
		if total(shrunk(lines, width, columnLeast)) <= width {
			break
		}
		lines = without(lines, func(c int) bool { return lines[0][c] == name })
	}
	widths := shrunk(lines, width, columnLeast)
	if total(widths) > width {
		widths = shrunk(lines, width, columnMin)
	}
	cut := make([][]string, len(lines))
	for i, line := range lines {
		cut[i] = make([]string, len(line))
		for c, text := range line {
			cut[i][c] = cell(text, widths[c])
		}
	}
	return cut
}

// without are the lines without some columns.
func without(lines [][]string, leftOut func(column int) bool) [][]string {
	kept := make([][]string, len(lines))
	for c := range lines[0] {
		if leftOut(c) {
			continue
		}
		for i, line := range lines {
			kept[i] = append(kept[i], line[c])
		}
	}
	return kept
}

// shrunk are the widths of columns. It narrows the widest until all fit, or none has more than least.
func shrunk(lines [][]string, width, least int) []int {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for c, text := range line {
			widths[c] = max(widths[c], utf8.RuneCountInString(text))
		}
	}
	for total(widths) > width {
		widest := -1
		for c, n := range widths {
			if lines[0][c] != columnNotCut && n > least && (widest < 0 || n > widths[widest]) {
				widest = c
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

func total(widths []int) (sum int) {
	for _, n := range widths {
		sum += n + columnGap
	}
	return max(sum-columnGap, 0)
}

// wrapped breaks text into lines that fit the terminal behind an indent.
func (p *program) wrapped(text string, indent int) []string {
	width := p.width()
	if width == 0 {
		return []string{text}
	}
	return wrapped(text, max(width-indent, columnLeast))
}
