package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

const mib = 1 << 20

// memory of a process, in MiB.
type memory struct {
	resident float64 // now
	peak     float64 // the most since it began
}

// memory reads /proc/PID/status (proc_pid_status(5)). ok is false where there is none.
func (w *workerProcess) memory() (m memory, ok bool) {
	path := fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid)
	resident, okResident := kibibytes(valueOf(path, "VmRSS"))
	peak, okPeak := kibibytes(valueOf(path, "VmHWM"))
	return memory{resident, peak}, okResident && okPeak
}

// kibibytes reads "1234 kB", which means KiB, and returns MiB.
func kibibytes(text string) (mebibytes float64, ok bool) {
	digits, found := strings.CutSuffix(text, " kB")
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	return n * 1024 / mib, found && err == nil
}

// watchMemory looks at a worker's memory now and then, until it is stopped or the worker ends. What was seen, MiB by
// seconds since the worker's start, is the curve "rss".
func (t *trial) watchMemory(w *workerProcess) (stop func() []point) {
	every := pick(t.size, 100*time.Millisecond, 50*time.Millisecond, 250*time.Millisecond)
	ctx, cancel := context.WithCancel(w.running)
	ended := make(chan struct{})
	var seen []point
	go func() {
		defer close(ended)
		for pause(ctx, every) == nil {
			if m, ok := w.memory(); ok {
				seen = append(seen, point{time.Since(w.begun).Seconds(), m.resident})
			}
		}
	}()
	return sync.OnceValue(func() []point {
		cancel()
		<-ended
		for _, p := range seen {
			t.plot("rss", p.x, p.y)
		}
		return seen
	})
}

// pause returns after d, or with the reason when ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
