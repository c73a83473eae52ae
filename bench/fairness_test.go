package main

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// flownOf makes messages that were committed one second apart. Each took the given number of milliseconds; 0 stands for one
// that never arrived.
func flownOf(took ...int) stand.Flown {
	f := stand.Flown{Begun: time.Unix(1_000, 0)}
	for n, ms := range took {
		at := f.Begun.Add(time.Duration(n) * time.Second)
		f.Committed = append(f.Committed, at)
		arrived := int64(0)
		if ms > 0 {
			arrived = at.Add(time.Duration(ms) * time.Millisecond).UnixNano()
		}
		f.Arrived = append(f.Arrived, arrived)
	}
	return f
}

func TestOnlyTheWaitsOfTheMeasuredTimeCount(t *testing.T) {
	t.Parallel()
	f := flownOf(9_000, 40, 30, 20, 10)
	s := stand.Stream{Until: 5}
	for name, c := range map[string]struct {
		from, until int
		want        []float64
	}{
		"all but the first":       {0, 9, []float64{10, 20, 30, 40}},
		"the latter is exclusive": {2, 4, []float64{20, 30}},
		"none":                    {5, 9, nil},
	} {
		at := func(second int) time.Time { return f.Begun.Add(time.Duration(second) * time.Second) }
		if got := waitsOf(f, s, at(c.from), at(c.until)); !slices.Equal(got, c.want) {
			t.Errorf("%s: the waits are %v; want %v", name, got, c.want)
		}
	}
	if _, err := fairSample(nil, stand.CPUUse{}); err == nil {
		t.Error("a sample without messages returns no error, want one")
	}
}

func TestTheLastArrivalOfSomeMessagesIsTheLatestOne(t *testing.T) {
	t.Parallel()
	f := flownOf(10, 900, 10, 0)
	if last, all := lastArrival(f, 0, 3); !all || !last.Equal(f.Committed[2].Add(10*time.Millisecond)) {
		t.Errorf("the last arrival is %v, all arrived: %v; want the arrival of the third, and true", last, all)
	}
	if _, all := lastArrival(f, 1, 4); all {
		t.Error("all arrived is true, but one message did not arrive")
	}
}

func TestABacklogIsGoneWhenItsLastMessageArrives(t *testing.T) {
	t.Parallel()
	const from = 2
	f := flownOf(10, 10, 500, 500, 500)
	if perSecond, gone := pace(f, from); perSecond != 1.5 || !gone.Equal(f.Committed[4].Add(500*time.Millisecond)) {
		t.Errorf("%v/s, gone at %v; want 1.5/s (three in two seconds), gone when the last one arrived", perSecond, gone)
	}
	f.Arrived[3] = 0
	if perSecond, gone := pace(f, from); perSecond != 1 || !gone.IsZero() {
		t.Errorf("%v/s, gone at %v; want 1/s (two in two seconds), not gone", perSecond, gone)
	}
	if perSecond, gone := pace(f, len(f.Arrived)); perSecond != 0 || !gone.IsZero() {
		t.Errorf("no backlog: %v/s, gone at %v; want 0/s, not gone", perSecond, gone)
	}
}
