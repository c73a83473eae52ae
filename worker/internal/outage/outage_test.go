package outage

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

var errAway = errors.New("connection refused")

// TestAnOutageIsToldWhenItBeginsNowAndThenAndWhenItEnds, however many parts fail.
func TestAnOutageIsToldWhenItBeginsNowAndThenAndWhenItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		o := New(slog.New(slog.NewTextHandler(&text, nil)), time.Minute, Faults{})
		one, other := o.Part("one"), o.Part("other")
		for range 100 {
			_ = one.Failed(t.Context(), errAway)
			_ = other.Failed(t.Context(), errAway)
		}
		time.Sleep(sayAgain + time.Second)
		_ = one.Failed(t.Context(), errAway)
		one.Worked()
		if n := strings.Count(text.String(), "used again"); n != 0 {
			t.Error("it is told to be over while a part fails")
		}
		other.Worked()
		if strings.Contains(text.String(), "used again") {
			t.Error("it is told to be over at the first success")
		}
		time.Sleep(settles)
		other.Worked()
		other.Worked()
		if began, over := strings.Count(text.String(), "cannot be used"), strings.Count(text.String(), "used again"); began != 2 || over != 1 {
			t.Errorf("told %d times that it is away, want 2 in %v, and %d times that it is back, want 1", began, sayAgain, over)
		}
	})
}

// TestNewAdviceIsToldAtOnceAndOnceInAnOutage: a lost session comes first, and says nothing about what keeps the next from
// working.
func TestNewAdviceIsToldAtOnceAndOnceInAnOutage(t *testing.T) {
	t.Parallel()
	errReadOnly, errFull := errors.New("read-only"), errors.New("full")
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		p := New(slog.New(slog.NewTextHandler(&text, nil)), time.Minute, Faults{Advice: func(err error) string {
			return map[error]string{errReadOnly: "promote it", errFull: "make room"}[err]
		}}).Part("one")
		outage := func() {
			for range 10 {
				for _, err := range []error{errAway, errReadOnly, errFull} {
					_ = p.Failed(t.Context(), err)
				}
			}
			p.Worked()
			time.Sleep(settles)
			p.Worked()
		}
		for n := 1; n <= 2; n++ {
			outage()
			for what, want := range map[string]int{"cannot be used": 3 * n, "promote it": n, "make room": n} {
				if got := strings.Count(text.String(), what); got != want {
					t.Errorf("after outage %d, %q stands in %d lines, want %d", n, what, got, want)
				}
			}
		}
	})
}

func TestAPartWaitsLongerEachTimeUpToABound(t *testing.T) {
	t.Parallel()
	p := New(slog.New(slog.DiscardHandler), time.Minute, Faults{}).Part("one")
	last := time.Duration(0)
	for i := range 10 {
		pause := p.Failed(t.Context(), errAway)
		if pause < last || pause > PauseMax || i == 0 && pause != pauseMin || i == 9 && pause != PauseMax {
			t.Errorf("pause %d is %v, after %v", i+1, pause, last)
		}
		last = pause
	}
	if p.Worked(); p.Failed(t.Context(), errAway) != pauseMin {
		t.Error("a success does not begin anew")
	}
	p = New(slog.New(slog.DiscardHandler), time.Second, Faults{}).Part("one")
	for range 10 {
		last = p.Failed(t.Context(), errAway)
	}
	if last != time.Second {
		t.Errorf("with a bound of a second it waits %v", last)
	}
}

// TestAFaultOfASessionIsTriedAgainAtOnceOnce: then it is an outage like any other, until the part has worked.
func TestAFaultOfASessionIsTriedAgainAtOnceOnce(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	p := New(slog.New(slog.NewTextHandler(&text, nil)), time.Minute, Faults{
		Failed: func(err error) bool { return errors.Is(err, errAway) },
		Advice: func(error) string { return "start it" },
	}).Part("one")
	for i := range 2 {
		if pause := p.Failed(t.Context(), errAway); pause != 0 || text.Len() > 0 {
			t.Errorf("the first fault waits %v, and the log says %q", pause, text.String())
		}
		if pause := p.Failed(t.Context(), errAway); pause != pauseMin || i == 0 && !strings.Contains(text.String(), "start it") {
			t.Errorf("the second waits %v, and the log says %q", pause, text.String())
		}
		p.Worked()
		text.Reset()
	}
	if pause := p.Failed(t.Context(), errors.New("disk full")); pause != pauseMin {
		t.Errorf("a fault of another kind waits %v", pause)
	}
}

// TestOurOwnEndIsNoOutage: what fails because the worker stops says nothing of the database.
func TestOurOwnEndIsNoOutage(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	p := New(slog.New(slog.NewTextHandler(&text, nil)), time.Minute, Faults{}).Part("one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx, errAway); !errors.Is(err, context.Canceled) || text.Len() > 0 {
		t.Errorf("%v, and the log says %q", err, text.String())
	}
}

// TestFaultsThatComeAndGoAreOneOutage: while a part fails now and then, nothing is said to be over.
func TestFaultsThatComeAndGoAreOneOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		p := New(slog.New(slog.NewTextHandler(&text, nil)), time.Second, Faults{}).Part("one")
		for range 20 {
			_ = p.Failed(t.Context(), errAway)
			time.Sleep(time.Second)
			p.Worked()
		}
		if began, over := strings.Count(text.String(), "cannot be used"), strings.Count(text.String(), "used again"); began != 1 || over != 0 {
			t.Errorf("in 20 s it is told %d times to begin, and %d times to be over", began, over)
		}
	})
}
