package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// touches says what a fault can delay or repeat. Everything else must continue.
type touches struct {
	everything bool
	workers    []int    // by number; while one is not touched, deliveries go on
	origins    []string // their messages may wait
	messages   []string // they may wait, be sent again, or be dead
}

// fault is a fault that lasts or has ended.
type fault struct {
	kind    string
	detail  string
	touches touches
	begin   time.Time
	ended   time.Time // zero while it lasts
}

func (f fault) String() string {
	text := fmt.Sprintf("%s %-10s %s", f.begin.Format("15:04:05.000"), f.kind, f.detail)
	if f.ended.IsZero() {
		return text + " (lasts)"
	}
	return fmt.Sprintf("%s (%v)", text, f.ended.Sub(f.begin).Round(time.Millisecond))
}

// overlaps reports whether the fault was in force at any moment between two times, or had ended at most linger before them.
func (f fault) overlaps(from, to time.Time, linger time.Duration) bool {
	return !f.begin.After(to) && (f.ended.IsZero() || !f.ended.Add(linger).Before(from))
}

// timeline is the record of all faults.
type timeline struct {
	workers int

	mu     sync.Mutex
	faults []*fault
}

// entry is a fault in the timeline. The code that makes the fault gets one, and records with it when the fault ends.
type entry struct {
	timeline *timeline
	fault    *fault
}

// begin records a fault before it is made.
func (t *timeline) begin(kind, detail string, what touches) entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &fault{kind: kind, detail: detail, touches: what, begin: time.Now()}
	t.faults = append(t.faults, f)
	return entry{t, f}
}

// end records that the fault was undone.
func (e entry) end() {
	e.timeline.mu.Lock()
	defer e.timeline.mu.Unlock()
	e.fault.ended = time.Now()
}

// touch adds a message that the fault touches.
func (e entry) touch(message string) {
	e.timeline.mu.Lock()
	defer e.timeline.mu.Unlock()
	e.fault.touches.messages = append(e.fault.touches.messages, message)
}

// overlapping returns the faults that overlap this time, the oldest first.
func (t *timeline) overlapping(from, to time.Time, linger time.Duration) []fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []fault
	for _, f := range t.faults {
		if f.overlaps(from, to, linger) {
			all = append(all, *f)
		}
	}
	return all
}

// mayWait reports whether one of these faults is a reason for a message to wait at its origin: one that touches everything,
// the origin, the message, or all workers at once.
func mayWait(faults []fault, workers int, origin, message string) bool {
	touched := map[int]bool{}
	for _, f := range faults {
		if f.touches.everything || slices.Contains(f.touches.origins, origin) || slices.Contains(f.touches.messages, message) {
			return true
		}
		for _, w := range f.touches.workers {
			touched[w] = true
		}
	}
	return len(touched) >= workers
}

// mayRepeat reports whether one of these faults is a reason to send an accepted message again: one that can prevent the record
// of an answer.
func mayRepeat(faults []fault, origin, message string) bool {
	for _, f := range faults {
		if f.touches.everything || len(f.touches.workers) > 0 ||
			slices.Contains(f.touches.origins, origin) || slices.Contains(f.touches.messages, message) {
			return true
		}
	}
	return false
}

// counts returns the faults by kind, for the summary.
func (t *timeline) counts() (text string, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	by := map[string]int{}
	for _, f := range t.faults {
		by[f.kind]++
	}
	var parts []string
	for kind, n := range by {
		parts = append(parts, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", "), len(t.faults)
}

// around returns the faults around a time as text, as evidence.
func (t *timeline) around(from, to time.Time) string {
	const before, most = 15 * time.Second, 12
	var lines []string
	for _, f := range t.overlapping(from.Add(-before), to, 0) {
		lines = append(lines, "      "+f.String())
	}
	if len(lines) == 0 {
		return "      no fault at that time"
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
