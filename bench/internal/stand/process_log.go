package stand

import (
	"bytes"
	"strings"
	"sync"
)

// logTail keeps the end of a worker's log, and sees when it works.
type logTail struct {
	ready chan struct{} // closed by the first line that says so

	mu    sync.Mutex
	part  []byte // a line without its end
	lines []string
	told  bool
}

// readyLine is in what worker.Run logs once it claims.
const readyLine = " msg=working "

// Write takes what the process prints, in pieces that need not be lines.
func (l *logTail) Write(p []byte) (int, error) {
	const linesMax = 20
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, ended := bytes.Cut(l.part, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		l.lines = append(l.lines, string(line))
		l.lines = l.lines[max(0, len(l.lines)-linesMax):]
		if !l.told && bytes.Contains(line, []byte(readyLine)) {
			l.told = true
			close(l.ready)
		}
		l.part = append([]byte(nil), rest...)
	}
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return "    " + strings.Join(append(l.lines, string(l.part)), "\n    ")
}
