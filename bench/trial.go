package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// trial is one contender's run in one round.
type trial struct {
	*stand

	name       string // of scenario, contender and round
	size       size
	profileDir string
	db         *database
	plotter    *plotter

	beforeDrain func(ctx context.Context) error // when not nil: the last thing before the clock of a drain starts
}

// trialMax bounds one trial: a contender that hangs fails the run and not the night.
const trialMax = 30 * time.Minute

// measurement is what one trial found.
type measurement struct {
	figures sample
	curves  curves
}

// measureTrial gives the contender a schema of its own and takes it away again.
func measureTrial(ctx context.Context, t trial, c contender) (found measurement, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, trialMax, fmt.Errorf("the trial took longer than %v", trialMax))
	defer cancel()
	if t.db, err = newDatabase(ctx, t.server.URL()); err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, t.db.drop(ctx)) }()
	t.plotter = &plotter{}
	found.figures, err = c.run(ctx, &t)
	if err != nil && ctx.Err() != nil {
		return found, context.Cause(ctx)
	}
	maps.DeleteFunc(found.figures, func(_ string, v float64) bool { return !isFinite(v) }) // what could not be measured
	found.curves = t.plotter.plotted()
	return found, err
}

// timed runs the part of a trial that counts, and says what CPU it took. The garbage of the preparations is collected
// before.
func (t *trial) timed(work func() error) (cpuUse, error) {
	runtime.GC()
	stop, err := t.startProfile()
	if err != nil {
		return cpuUse{}, err
	}
	before := t.cpu.read()
	err = work()
	used := t.cpu.read().since(before)
	return used, errors.Join(err, stop())
}

func (t *trial) startProfile() (stop func() error, err error) {
	if t.profileDir == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(t.profileDir, 0o755); err != nil {
		return nil, fmt.Errorf("-cpuprofile: %w", err)
	}
	f, err := os.Create(filepath.Join(t.profileDir, t.name+".pprof"))
	if err != nil {
		return nil, fmt.Errorf("-cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("-cpuprofile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
