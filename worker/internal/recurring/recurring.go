// Package recurring logs faults that repeat: the first at once, and then once a minute with a
// count. A thousand messages that fail for one reason need only one line.
package recurring

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	every   = time.Minute
	keysMax = 1000 // beyond that, faults share a line by their text: submitters can cause any number of them
)

// Log writes the lines. Its methods may be called from any goroutine.
type Log struct {
	logger *slog.Logger
	every  time.Duration

	mu     sync.Mutex
	faults map[string]*fault
	closed bool
}

// fault is the state of a fault that was logged less than a minute ago.
type fault struct {
	more  int         // that came since, and were not logged
	level slog.Level  // of the last of them
	text  string      // of the last of them
	attrs []slog.Attr // of the last of them
	timer *time.Timer // ends the minute
}

// New returns a log that has logged nothing yet.
func New(logger *slog.Logger) *Log {
	return &Log{logger: logger, every: every, faults: map[string]*fault{}}
}

// Tell logs a fault, unless one with the same key was logged less than a minute ago: then the next line says how
// many came since, with the last one's attributes. key says what makes two faults the same.
func (l *Log) Tell(ctx context.Context, level slog.Level, key, text string, attrs ...slog.Attr) {
	if !l.logger.Enabled(ctx, level) {
		return
	}
	key = text + "\x00" + key
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults[key]
	if f == nil && len(l.faults) >= keysMax {
		key = text
		f = l.faults[key]
	}
	if f != nil && !l.closed {
		f.more++
		f.level, f.text, f.attrs = level, text, attrs
		return
	}
	l.logger.LogAttrs(ctx, level, text, attrs...)
	if !l.closed {
		l.faults[key] = &fault{timer: time.AfterFunc(l.every, func() { l.minuteOver(key) })}
	}
}

// minuteOver logs what came in the minute, and begins another one; after a minute without any, the fault is new again.
func (l *Log) minuteOver(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults[key]
	if f == nil || l.closed {
		return
	}
	if f.more == 0 {
		delete(l.faults, key)
		return
	}
	l.tell(f)
	f.more = 0
	f.timer.Reset(l.every)
}

// tell logs those that came since the last line.
func (l *Log) tell(f *fault) {
	l.logger.LogAttrs(context.Background(), f.level, f.text, append(f.attrs, slog.Int("times", f.more))...)
}

// Close logs what is not logged yet. After that, each fault is logged at once.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for key, f := range l.faults {
		f.timer.Stop()
		if f.more > 0 {
			l.tell(f)
		}
		delete(l.faults, key)
	}
}
