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

// TestAnOutageIsLoggedAtItsBeginNowAndThenAndAtItsEnd: once for all parts that fail, however many they are.
func TestAnOutageIsLoggedAtItsBeginNowAndThenAndAtItsEnd(t *testing.T) {
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
			t.Error("the log says that the outage is over, but a part still fails")
		}
		other.Worked()
		if strings.Contains(text.String(), "used again") {
			t.Error("the log says at the first success that the outage is over, want later")
		}
		time.Sleep(settles)
		other.Worked()
		other.Worked()
		if began, over := strings.Count(text.String(), "cannot be used"), strings.Count(text.String(), "used again"); began != 2 || over != 1 {
			t.Errorf("the log says %d times that the database is away, want 2 in %v, and %d times that it is back, want 1", began, sayAgain, over)
		}
	})
}

// TestNewAdviceIsLoggedAtOnceAndOnlyOnceInAnOutage: the first error is that of the lost session, and does not say why the
// next session does not work.
func TestNewAdviceIsLoggedAtOnceAndOnlyOnceInAnOutage(t *testing.T) {
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
					t.Errorf("after outage %d, %q is in %d lines, want %d", n, what, got, want)
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
			t.Errorf("pause %d is %v, after one of %v; want %v at first, then ever longer, and never more than %v", i+1, pause, last, pauseMin, PauseMax)
		}
		last = pause
	}
	if p.Worked(); p.Failed(t.Context(), errAway) != pauseMin {
		t.Errorf("the first pause after a success is not %v", pauseMin)
	}
	p = New(slog.New(slog.DiscardHandler), time.Second, Faults{}).Part("one")
	for range 10 {
		last = p.Failed(t.Context(), errAway)
	}
	if last != time.Second {
		t.Errorf("with a bound of a second, the last pause is %v, want 1s", last)
	}
}

// TestAfterALostSessionTheFirstRetryDoesNotWait: a second fault is an outage like any other, until the part has worked.
func TestAfterALostSessionTheFirstRetryDoesNotWait(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	p := New(slog.New(slog.NewTextHandler(&text, nil)), time.Minute, Faults{
		Failed: func(err error) bool { return errors.Is(err, errAway) },
		Advice: func(error) string { return "start it" },
	}).Part("one")
	for i := range 2 {
		if pause := p.Failed(t.Context(), errAway); pause != 0 || text.Len() > 0 {
			t.Errorf("the pause after the first fault is %v, want none, and the log says %q, want nothing", pause, text.String())
		}
		if pause := p.Failed(t.Context(), errAway); pause != pauseMin || i == 0 && !strings.Contains(text.String(), "start it") {
			t.Errorf("the pause after the second fault is %v, want %v, and the log says %q, want the advice \"start it\"", pause, pauseMin, text.String())
		}
		p.Worked()
		text.Reset()
	}
	if pause := p.Failed(t.Context(), errors.New("disk full")); pause != pauseMin {
		t.Errorf("the pause after a fault of another kind is %v, want %v", pause, pauseMin)
	}
}

// TestAWorkerThatStopsReportsNoOutage: an error that comes from the stop of the worker says nothing about the database.
func TestAWorkerThatStopsReportsNoOutage(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	p := New(slog.New(slog.NewTextHandler(&text, nil)), time.Minute, Faults{}).Part("one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx, errAway); !errors.Is(err, context.Canceled) || text.Len() > 0 {
		t.Errorf("Wait returns %v, want %v, and the log says %q, want nothing", err, context.Canceled, text.String())
	}
}

// TestFaultsThatComeAndGoAreOneOutage: while a part fails now and then, the log does not say that the outage is over.
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
			t.Errorf("in 20 s the log says %d times that the outage begins, want 1, and %d times that it is over, want 0", began, over)
		}
	})
}
