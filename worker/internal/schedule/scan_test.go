package schedule

import (
	"fmt"
	"testing"
	"time"
)

// scan takes the scan loop's next step, which must be a scan.
func (r *rig) scan() ScanOrder {
	r.t.Helper()
	step := r.NextScan(r.now)
	if step.Do != Scan {
		r.t.Fatalf("the next step is %v, want a scan", step)
	}
	return step.Scan
}

// scanned makes a full scan that takes this long and finds these endpoints.
func (r *rig) scanned(took time.Duration, names ...string) {
	r.t.Helper()
	order := r.scan()
	r.later(took)
	var found []Candidate
	for _, name := range names {
		found = append(found, Candidate{name, longAgo})
	}
	r.Scanned(order, found, took, r.now)
	signalled(r.ScanLoop)
}

func TestWhatTheScanLoopDoesNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after func(r *rig)
		want  string
	}{
		"it begins with a full scan":                 {func(*rig) {}, `scan behind ""`},
		"one at a time":                              {func(r *rig) { r.scan() }, "wait until 1s for a wake"},
		"after it, it waits for the poll":            {func(r *rig) { r.scanned(0) }, "wait until 1s for a wake"},
		"at the poll it scans":                       {func(r *rig) { r.scanned(0); r.later(testPoll) }, `scan behind ""`},
		"when it found something it inserts a drain": {func(r *rig) { r.scanned(0, "a") }, "insert a drain"},
		"but not while one runs":                     {func(r *rig) { r.drains(); r.scanned(0, "a") }, "wait until 1s for a wake"},
		"nor when one was inserted a moment ago": {func(r *rig) {
			r.scanned(0, "a")
			r.NextScan(r.now)
			r.Woken(r.now)
			r.scanned(0, "a")
		}, "wait until 50ms for a wake"},
		"after a wake it scans": {func(r *rig) { r.scanned(0); r.Woken(r.now) }, `scan behind ""`},
		"while a drain runs, a wake leads to a later scan": {func(r *rig) {
			r.scanned(0)
			r.knows("a").drains()
			r.Woken(r.now)
		}, "wait until 100ms for a wake"},
		"and then it scans": {func(r *rig) {
			r.scanned(0)
			r.knows("a").drains()
			r.Woken(r.now)
			r.later(wakeScanDelay)
		}, `scan behind ""`},
		"after a drain began without candidates it scans": {func(r *rig) { r.scanned(0); r.drains() }, `scan behind ""`},
		"it waits nine times as long as the scan took":    {func(r *rig) { r.scanned(10 * time.Millisecond); r.Woken(r.now) }, "wait until 100ms for a wake"},
		"after a slow full scan it makes recent ones": {func(r *rig) {
			r.scanned(100 * time.Millisecond)
			r.Woken(r.now)
		}, "scan what was written since -2s"},
		"20 ms are not slow": {func(r *rig) { r.scanned(scanSlow); r.Woken(r.now) }, "wait until 200ms for a wake"},
		"nor is a full scan that has taken as long by now": {func(r *rig) {
			r.scan()
			r.later(scanSlow)
			r.Woken(r.now)
		}, "wait until 21ms for a wake"},
		"also while it is under way": {func(r *rig) {
			r.scan()
			r.later(scanSlow + time.Millisecond)
			r.Woken(r.now)
		}, "scan what was written since -2s"},
		"not before": {func(r *rig) { r.scan(); r.Woken(r.now) }, "wait until 21ms for a wake"},
		"after a drain could not be inserted it scans": {func(r *rig) {
			r.scanned(0, "a")
			r.NextScan(r.now)
			r.InsertFailed(r.now, 300*time.Millisecond)
			r.later(300 * time.Millisecond)
		}, `scan behind ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := slots(t, 16, 8)
			c.after(r)
			if got := r.NextScan(r.now).String(); got != c.want {
				t.Errorf("the next step is %q, want %q", got, c.want)
			}
		})
	}
}

func TestAFullScanGoesOnWhereTheLastOneWasCut(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	var names []string
	for i := range ScanMax {
		names = append(names, fmt.Sprintf("e%04d", i))
	}
	r.drains().scanned(0, names...)
	if got := r.NextScan(r.now).String(); got != `scan behind "e0999"` {
		t.Errorf("the next step is %q, want a scan behind the last endpoint", got)
	}
	r.Scanned(ScanOrder{After: "e0999"}, nil, 0, r.now)
	r.later(testPoll)
	if got := r.NextScan(r.now).String(); got != `scan behind ""` {
		t.Errorf("the step after that is %q, want a scan from the beginning", got)
	}
}

// TestAScanReadsAgainWhatAFailedOneShouldHaveRead: only a scan that succeeds moves the start of the next recent scan.
func TestAScanReadsAgainWhatAFailedOneShouldHaveRead(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.scanned(100 * time.Millisecond) // it is slow, so recent scans follow; it began at 0
	r.later(200 * time.Millisecond)
	r.Woken(r.now)
	order := r.scan()
	r.ScanFailed(order, r.now, 50*time.Millisecond)
	r.later(50 * time.Millisecond)
	if got := r.NextScan(r.now).String(); got != "scan what was written since -2s" {
		t.Errorf("after a failure the next step is %q, want a scan since -2s", got)
	}
	r.Scanned(order, nil, 0, r.now) // it began 350 ms after the test
	r.later(time.Second)
	r.Woken(r.now)
	full := r.scan()
	r.ScanFailed(full, r.now, time.Hour) // a full scan that fails has read nothing
	if got := r.NextScan(r.now).String(); got != "scan what was written since -1.65s" {
		t.Errorf("after a success, and a full scan that failed, the next step is %q, want a scan since -1.65s", got)
	}
}

func TestAScanThatFindsSomethingWakesTheRunningDrain(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.drains().claim()
	r.Claimed(r.now, nil, nil)
	r.NextClaim(r.now)
	if r.scanned(0, "a"); !signalled(r.ClaimLoop) {
		t.Error("the scan's result does not signal the claim loop")
	}
	if got := r.NextClaim(r.now).String(); got != "claim a" {
		t.Errorf("the next step is %q, want a claim of a", got)
	}
}

// TestARecentScanBeginsAtTheStartOfTheLastWholeScan: a full scan that was cut short has not read everything.
func TestARecentScanBeginsAtTheStartOfTheLastWholeScan(t *testing.T) {
	t.Parallel()
	many := make([]string, ScanMax)
	for i := range many {
		many[i] = fmt.Sprintf("e%04d", i)
	}
	for name, c := range map[string]struct {
		found []string
		want  string
	}{
		"in one piece": {many[1:], "scan what was written since -1s"}, "cut": {many, "scan what was written since -2s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := slots(t, 16, 8)
			r.scanned(0)
			r.later(time.Second)
			r.drains().scanned(scanSlow+time.Millisecond, c.found...) // it began a second after the test
			r.Woken(r.now)
			r.later(wakeScanDelay)
			if got := r.NextScan(r.now).String(); got != c.want {
				t.Errorf("the next step is %q, want %q", got, c.want)
			}
		})
	}
}
