package stand

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// Trial is what a trial uses of a stand: a schema of its own, and what all share.
type Trial struct {
	*Stand

	Name       string // of scenario, contender and round; names the profile
	ProfileDir string // where a CPU profile of the timed part goes; "" for none
	DB         *Database

	BeforeDrain func(ctx context.Context) error // when not nil: the last thing before the clock of a drain starts
}

// Timed runs the part of a trial that counts, and says what CPU it took. The garbage of the preparations is collected
// before.
func (t *Trial) Timed(work func() error) (CPUUse, error) {
	runtime.GC()
	stop, err := t.startProfile()
	if err != nil {
		return CPUUse{}, err
	}
	before := t.cpu.read()
	err = work()
	used := t.cpu.read().since(before)
	return used, errors.Join(err, stop())
}

func (t *Trial) startProfile() (stop func() error, err error) {
	if t.ProfileDir == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(t.ProfileDir, 0o755); err != nil {
		return nil, fmt.Errorf("-cpuprofile: %w", err)
	}
	f, err := os.Create(filepath.Join(t.ProfileDir, t.Name+".pprof"))
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
