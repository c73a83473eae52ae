package riverstep_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/measured"
)

func TestMetricsCountStepsByTheirResult(t *testing.T) {
	t.Parallel()
	m := measured.New(t)
	r := newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		switch {
		case s.Number == 0:
			return riverstep.Continue(nil), nil
		case s.Attempt == 1:
			return riverstep.Verdict{}, errors.New("not yet")
		}
		return riverstep.Succeed(nil), nil
	}), func(c *riverstep.Config, _ *river.Config) { c.MeterProvider = m.Provider() })
	r.start()
	r.submit(riverstep.RunSpec{ID: "run"})
	r.wait("run")
	want := map[string]float64{
		"outbox.step.settled{end=next}": 1, "outbox.step.settled{end=released}": 1, "outbox.step.settled{end=succeeded}": 1,
		"outbox.step.duration{}": 3, "outbox.step.settle.duration{}": 3,
	}
	r.until(func() bool {
		got := m.Series()
		for series, n := range want {
			if got[series] != n {
				return false
			}
		}
		return true
	})
	if t.Failed() {
		t.Log(m.Series())
	}
}

func TestMetricsCountRetriedTransactions(t *testing.T) {
	t.Parallel()
	m := measured.New(t)
	running, goOn := make(chan struct{}), make(chan struct{})
	r := newRig(t, riverstep.RunnerFunc(func(context.Context, riverstep.Step) (riverstep.Verdict, error) {
		close(running)
		<-goOn
		return riverstep.Succeed(nil), nil
	}), func(c *riverstep.Config, _ *river.Config) {
		c.MeterProvider, c.SettleTimeout = m.Provider(), 300*time.Millisecond
	})
	r.start()
	r.submit(riverstep.RunSpec{ID: "held"})
	<-running
	release := r.hold(holdRun, "held")
	close(goOn)
	r.until(func() bool { return m.Series()["outbox.step.transactions_again{because=lock}"] > 0 })
	release()
	r.wait("held")
}
