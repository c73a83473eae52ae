package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// story is what the demo prints. On a terminal the line of progress is overwritten; elsewhere it is a new line
// now and then.
type story struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	open     bool // the terminal's line of progress is not ended
	told     time.Time
	unheard  context.CancelCauseFunc
}

// progressEvery is how often progress is a line of its own.
const progressEvery = 2 * time.Second

// newStory calls unheard when the reader of the output is gone.
func newStory(out *os.File, unheard context.CancelCauseFunc) *story {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return &story{out: out, terminal: terminal, unheard: unheard}
}

// line prints one line.
func (s *story) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := ""
	if s.open {
		start, s.open = "\r\x1b[K", false
	}
	s.write(start + strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// part prints a line about one of the parts.
func (s *story) part(name, format string, args ...any) {
	s.line("  %-10s %s", name, fmt.Sprintf(format, args...))
}

// progress prints how far the run is.
func (s *story) progress(format string, args ...any) {
	if !s.terminal {
		if time.Since(s.told) >= progressEvery {
			s.told = time.Now()
			s.line(format, args...)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	s.write("\r\x1b[K" + fmt.Sprintf(format, args...))
}

func (s *story) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil {
		s.unheard(errors.New("nobody reads on"))
	}
}
