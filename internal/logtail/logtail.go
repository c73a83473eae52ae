// Package logtail keeps the end of what a process prints, for the error that says how the process ended.
package logtail

import (
	"bytes"
	"strings"
	"sync"
)

// What a Tail keeps.
const (
	linesMax     = 25
	lineBytesMax = 64 << 10 // a longer line is cut in two
)

// Tail keeps the last lines. A process writes to it, in pieces that need not be lines.
type Tail struct {
	each func(line string)

	mu    sync.Mutex
	part  []byte // a line without its end
	lines []string
}

// New returns an empty Tail. each, if not nil, is given each line, one at a time.
func New(each func(line string)) *Tail { return &Tail{each: each} }

// Write takes what the process prints.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, p...)
	for {
		line, rest, ended := bytes.Cut(t.part, []byte("\n"))
		if !ended && len(t.part) < lineBytesMax {
			return len(p), nil
		}
		if t.each != nil {
			t.each(string(line))
		}
		t.lines = append(t.lines, string(line))
		t.lines = t.lines[max(0, len(t.lines)-linesMax):]
		t.part = bytes.Clone(rest)
	}
}

// String returns the last lines, indented.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return "    " + strings.Join(append(t.lines, string(t.part)), "\n    ")
}
