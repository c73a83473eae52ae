package schedule

import (
	"fmt"
	"testing"
	"time"
)

// scan asks what to do next, which must be a scan.
func (r *rig) scan() ScanOrder {
	r.t.Helper()
	step := r.NextScan(r.now)
	if step.Do != Scan {
		r.t.Fatalf("next: %v, want a scan", step)
	}
	return step.Scan
}

// scanned makes a full scan that takes so long and finds some endpoints.
func (r *rig) scanned(took time.Duration, names ...string) {
	r.t.Helper()
	order := r.scan()
	r.later(took)
	var found []Candidate
	for _, name := range names {
		found = append(found, Candidate{name, longAgo})
	}
	r.Scanned(order, found, took, r.now)
	told(r.ScanLoop)
}

func TestWhatTheScanLoopDoesNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after func(r *rig)
		want  string
	}{
		"it begins with a full scan":   {func(*rig) {}, `scan behind ""`},
		"one at a time":                {func(r *rig) { r.scan() }, "wait until 1s for a wake"},
		"then it waits for the poll":   {func(r *rig) { r.scanned(0) }, "wait until 1s for a wake"},
		"the poll's end is a scan":     {func(r *rig) { r.scanned(0); r.later(testPoll) }, `scan behind ""`},
		"what was found wants a drain": {func(r *rig) { r.scanned(0, "a") }, "insert a drain"},
		"but not while one runs":       {func(r *rig) { r.drains(); r.scanned(0, "a") }, "wait until 1s for a wake"},
		"nor when one was inserted a moment ago": {func(r *rig) {
			r.scanned(0, "a")
			r.NextScan(r.now)
			r.Woken(r.now)
			r.scanned(0, "a")
		}, "wait until 50ms for a wake"},
		"a wake is a scan": {func(r *rig) { r.scanned(0); r.Woken(r.now) }, `scan behind ""`},
		"while a drain runs, it is a scan a little later": {func(r *rig) {
			r.scanned(0)
			r.knows("a").drains()
			r.Woken(r.now)
		}, "wait until 100ms for a wake"},
		"that is": {func(r *rig) {
			r.scanned(0)
			r.knows("a").drains()
			r.Woken(r.now)
			r.later(wakeScanDelay)
		}, `scan behind ""`},
		"a drain that began knowing nothing is a scan": {func(r *rig) { r.scanned(0); r.drains() }, `scan behind ""`},
		"scans pause nine times what they took":        {func(r *rig) { r.scanned(10 * time.Millisecond); r.Woken(r.now) }, "wait until 100ms for a wake"},
		"a full scan that is slow gives way to recent ones": {func(r *rig) {
			r.scanned(100 * time.Millisecond)
			r.Woken(r.now)
		}, "scan what was written since -2s"},
		"also while it is under way": {func(r *rig) {
			r.scan()
			r.later(scanSlow + time.Millisecond)
			r.Woken(r.now)
		}, "scan what was written since -2s"},
		"not before": {func(r *rig) { r.scan(); r.Woken(r.now) }, "wait until 21ms for a wake"},
		"a drain that could not be inserted is decided anew": {func(r *rig) {
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
				t.Errorf("next: %s, want: %s", got, c.want)
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
		t.Errorf("then: %s", got)
	}
	r.Scanned(ScanOrder{After: "e0999"}, nil, 0, r.now)
	r.later(testPoll)
	if got := r.NextScan(r.now).String(); got != `scan behind ""` {
		t.Errorf("and then: %s", got)
	}
}

// TestWhatAFailedScanShouldHaveReadTheNextOneReads: the start of recent scans moves on with a success only.
func TestWhatAFailedScanShouldHaveReadTheNextOneReads(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.scanned(100 * time.Millisecond) // slow: recent scans from now on; it began at 0
	r.later(200 * time.Millisecond)
	r.Woken(r.now)
	order := r.scan()
	r.ScanFailed(order, r.now, 50*time.Millisecond)
	r.later(50 * time.Millisecond)
	if got := r.NextScan(r.now).String(); got != "scan what was written since -2s" {
		t.Errorf("after a failure: %s", got)
	}
	r.Scanned(order, nil, 0, r.now) // it began 350 ms after the test
	r.later(time.Second)
	r.Woken(r.now)
	full := r.scan()
	r.ScanFailed(full, r.now, time.Hour) // a full scan that fails reads nothing either
	if got := r.NextScan(r.now).String(); got != "scan what was written since -1.65s" {
		t.Errorf("after a success, and a full scan that failed: %s", got)
	}
}

// TestAScansResultWakesTheDrainThatRuns.
func TestAScansResultWakesTheDrainThatRuns(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.drains().claim()
	r.Claimed(r.now, nil, nil)
	r.NextClaim(r.now)
	if r.scanned(0, "a"); !told(r.ClaimLoop) {
		t.Error("it is not told")
	}
	if got := r.NextClaim(r.now).String(); got != "claim a" {
		t.Errorf("next: %s", got)
	}
}

// TestARecentScanBeginsWhereAllWasReadBefore: a full scan in one piece has read all, and one that was cut has not.
func TestARecentScanBeginsWhereAllWasReadBefore(t *testing.T) {
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
			r.drains().scanned(scanSlow+time.Millisecond, c.found...) // it began after a second
			r.Woken(r.now)
			r.later(wakeScanDelay)
			if got := r.NextScan(r.now).String(); got != c.want {
				t.Errorf("then: %s, want: %s", got, c.want)
			}
		})
	}
}
