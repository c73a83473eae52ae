package main

import (
	"testing"
	"time"
)

// watched is a watch that gets four samples a second of one row, which stays due. play returns the violations.
type watched struct {
	*watch
	row    dueRow
	active func(now time.Time) []fault
	tries  time.Duration // the interval at which the message is tried; 0: never
}

func newWatched() *watched {
	w := &watched{watch: newWatch(2, map[string]bool{"http://healthy": true}), row: dueRow{id: "id-a", origin: "http://healthy"}}
	w.active = func(time.Time) []fault { return nil }
	return w
}

func (w *watched) play(length time.Duration) (stalls []violation) {
	var now time.Time
	w.faults = func(_, to time.Time) []fault { return w.active(to) }
	lastTry := func(string) time.Time {
		if w.tries == 0 {
			return time.Time{}
		}
		return now.Add(-(now.Sub(start) % w.tries))
	}
	w.tried, w.triedAt = lastTry, lastTry
	for since := time.Duration(0); since < length; since += sampleEvery {
		before := now
		now = at(since)
		stalls = append(stalls, w.sample(before, now, []dueRow{w.row})...)
	}
	return stalls
}

func TestAStallIsNoticed(t *testing.T) {
	t.Parallel()
	lasting := func(what touches) func(time.Time) []fault {
		return func(time.Time) []fault { return []fault{{kind: "some", touches: what, begin: start}} }
	}
	for name, c := range map[string]struct {
		change func(w *watched)
		length time.Duration
		stalls int // 0: none; otherwise at least one
	}{
		"a message that can be claimed and is not":    {func(*watched) {}, originMax + time.Second, 1},
		"the same, within the bound":                  {func(*watched) {}, originMax - time.Second, 0},
		"one under a lease without a request":         {func(w *watched) { w.row.leased = true }, messageMax + time.Second, 1},
		"one under a lease, within the bound":         {func(w *watched) { w.row.leased = true }, messageMax - time.Second, 0},
		"one that is tried again and again":           {func(w *watched) { w.tries = 2 * time.Second }, time.Minute, 0},
		"an origin that misbehaves, and is not tried": {func(w *watched) { w.row.origin = "http://failing" }, originMax + time.Second, 1},
		"while the database is away":                  {func(w *watched) { w.active = lasting(touches{everything: true}) }, time.Minute, 0},
		"while somebody holds its row":                {func(w *watched) { w.active = lasting(touches{messages: []string{"id-a"}}) }, time.Minute, 0},
		"while somebody holds another row":            {func(w *watched) { w.active = lasting(touches{messages: []string{"id-b"}}) }, time.Minute, 1},
		"while another origin has a bad rate":         {func(w *watched) { w.active = lasting(touches{origins: []string{"http://other"}}) }, time.Minute, 1},
		"while one worker of two stands still":        {func(w *watched) { w.active = lasting(touches{workers: []int{1}}) }, time.Minute, 1},
		"while both workers stand still":              {func(w *watched) { w.active = lasting(touches{workers: []int{0, 1}}) }, time.Minute, 0},
	} {
		w := newWatched()
		c.change(w)
		stalls := w.play(c.length)
		if (len(stalls) > 0) != (c.stalls > 0) {
			t.Errorf("%s: the violations are %+v, want some: %v", name, stalls, c.stalls > 0)
		}
		if len(stalls) > 2 {
			t.Errorf("%s: one stall makes %d violations, want 2 at most", name, len(stalls))
		}
	}
}

// TestTheClockBeginsAnewWhenAFaultEnds: a message that waited during a crash has the whole bound after it.
func TestTheClockBeginsAnewWhenAFaultEnds(t *testing.T) {
	t.Parallel()
	over := at(20 * time.Second)
	w := newWatched()
	w.active = func(now time.Time) []fault {
		if now.After(over) {
			return nil
		}
		return []fault{{touches: touches{everything: true}}}
	}
	if stalls := w.play(20*time.Second + originMax - time.Second); len(stalls) > 0 {
		t.Errorf("within the bound the violations are %+v, want none", stalls)
	}
	w = newWatched()
	w.active = func(now time.Time) []fault {
		if now.After(over) {
			return nil
		}
		return []fault{{touches: touches{everything: true}}}
	}
	if stalls := w.play(20*time.Second + originMax + time.Second); len(stalls) == 0 {
		t.Error("past the bound there is no violation, want one")
	}
}
