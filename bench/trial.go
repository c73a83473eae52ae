package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// trial is one contender's run in one round.
type trial struct {
	stand.Trial
	*report.Plotter

	size size
}

// trialMax bounds one trial: a contender that hangs fails the run instead of running all night.
const trialMax = 30 * time.Minute

// measurement is what one trial found.
type measurement struct {
	figures report.Sample
	curves  report.Curves
}

// measureTrial gives the contender a schema of its own and drops it afterwards.
func measureTrial(ctx context.Context, t trial, c contender) (found measurement, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, trialMax, fmt.Errorf("the trial took longer than %v", trialMax))
	defer cancel()
	if t.DB, err = t.NewDatabase(ctx); err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, t.DB.Drop(ctx)) }()
	t.Plotter = &report.Plotter{}
	found.figures, err = c.run(ctx, &t)
	if err != nil && ctx.Err() != nil {
		return found, context.Cause(ctx)
	}
	found.figures.DropUnmeasured()
	found.curves = t.Plotter.Plotted()
	return found, err
}

// perMessage divides the CPU time by the messages, in microseconds, and says how much of the machine others used meanwhile.
func perMessage(u stand.CPUUse, messages int) report.Sample {
	if !u.Known {
		return report.Sample{}
	}
	each := func(seconds float64) float64 { return seconds * 1e6 / float64(messages) }
	return report.Sample{
		"cpu_sender": each(u.Self), "cpu_postgres": each(u.Postgres), "cpu_receiver": each(u.Receiver),
		report.OthersMetric: u.OthersPercent(),
	}
}

// noteOthers adds what others used of the machine to a sample, where it is known.
func noteOthers(found report.Sample, u stand.CPUUse) {
	if u.Known {
		found[report.OthersMetric] = u.OthersPercent()
	}
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
