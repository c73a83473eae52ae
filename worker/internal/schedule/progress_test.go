package schedule

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const testLease = 30 * time.Second

// TestAWorkerIsStuckOnlyAfterALeaseAndTwoPollsWithoutAClaim by any worker, or when no scan succeeds.
func TestAWorkerIsStuckOnlyAfterALeaseAndTwoPollsWithoutAClaim(t *testing.T) {
	t.Parallel()
	full := func(r *rig, found ...Candidate) {
		r.scans.full.began = r.now
		r.Scanned(ScanOrder{}, found, 0, r.now)
	}
	// scans makes a scan per poll, for a little longer than a lease. Each finds what find returns.
	scans := func(r *rig, find func(i int) []Candidate) {
		for i := range 40 {
			r.later(testPoll)
			full(r, find(i)...)
		}
	}
	waits := []Candidate{{"a", longAgo}, {"b", longAgo}}
	for name, c := range map[string]struct {
		after func(r *rig)
		says  string
	}{
		"nothing is due":                      {func(r *rig) { scans(r, func(int) []Candidate { return nil }) }, ""},
		"messages wait and nobody claims any": {func(r *rig) { scans(r, func(int) []Candidate { return waits }) }, "nobody has claimed any for 39s"},
		"not yet for long": {func(r *rig) {
			for range 32 {
				r.later(testPoll)
				full(r, waits...)
			}
		}, ""},
		"this process claims": {func(r *rig) {
			scans(r, func(int) []Candidate { return waits })
			r.knows("a").drains().claim()
			r.Claimed(r.now, r.gave("a", 1, 1), nil)
		}, ""},
		"somebody else claims from one": {func(r *rig) {
			scans(r, func(i int) []Candidate {
				return []Candidate{waits[0], {"b", longAgo.Add(time.Duration(i) * time.Second)}}
			})
		}, ""},
		"somebody else claims all of one": {func(r *rig) {
			scans(r, func(i int) []Candidate { return waits[i%2:] })
		}, ""},
		"more becomes due, and nobody claims any": {func(r *rig) {
			all := waits
			scans(r, func(i int) []Candidate {
				all = append(all, Candidate{"later" + strings.Repeat("r", i), r.now})
				return all
			})
		}, "nobody has claimed any"},
		"nobody claims any of more endpoints than one scan reads": {func(r *rig) {
			var many []Candidate
			for i := range ScanMax {
				many = append(many, Candidate{fmt.Sprintf("e%04d", i), longAgo})
			}
			scans(r, func(int) []Candidate {
				r.Scanned(ScanOrder{After: many[ScanMax-1].Endpoint}, []Candidate{{"f", longAgo}}, 0, r.now)
				return many
			})
		}, "nobody has claimed any for 39s"},
		"recent scans find other messages, and nobody claims any": {func(r *rig) {
			scans(r, func(int) []Candidate {
				r.Scanned(ScanOrder{Kind: Recent}, []Candidate{{"new", r.now}}, 0, r.now)
				return waits
			})
		}, "nobody has claimed any for 39s"},
		"every slot is taken": {func(r *rig) {
			for i := range 8 {
				r.begins("other"+strings.Repeat("r", i), 2)
			}
			scans(r, func(int) []Candidate { return waits })
		}, ""},
		"nothing is due, and only recent scans are made": {func(r *rig) {
			full(r)
			for range 40 {
				r.later(testPoll)
				r.Scanned(ScanOrder{Kind: Recent}, nil, 0, r.now)
			}
		}, ""},
		"no scan succeeds": {func(r *rig) { r.later(3*testPoll + time.Millisecond) }, "no scan for due messages succeeded for 3.001s"},
		"a recent one does": {func(r *rig) {
			r.later(3*testPoll + time.Millisecond)
			r.Scanned(ScanOrder{Kind: Recent}, nil, 0, r.now)
		}, ""},
		"one fails": {func(r *rig) {
			r.later(3*testPoll + time.Millisecond)
			r.ScanFailed(ScanOrder{}, r.now, time.Second)
		}, "no scan"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := slots(t, 16, 8)
			r.config.Lease = testLease
			c.after(r)
			if got := r.Stuck(r.now); c.says == "" && got != "" || !strings.Contains(got, c.says) {
				t.Errorf("Stuck returns %q, want %q", got, c.says)
			}
		})
	}
}

func TestAScanThatWasCutShortCountsOnlyAsFarAsItRead(t *testing.T) {
	t.Parallel()
	var p progress
	p.scanned([]Candidate{{"a", longAgo}, {"z", longAgo}}, false, began)
	p.scanned([]Candidate{{"a", longAgo}, {"b", longAgo}}, true, began.Add(time.Second))
	if !p.madeAt.Equal(began) {
		t.Error("an endpoint behind the last one that the scan read counts as claimed")
	}
	p.scanned([]Candidate{{"a", longAgo}, {"c", longAgo}}, true, began.Add(2*time.Second))
	if !p.madeAt.Equal(began.Add(2 * time.Second)) {
		t.Error("an endpoint before the last one that the scan read, which it did not find, does not count as claimed")
	}
}
