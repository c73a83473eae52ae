package stand

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is the machine of a stand. Its fields are those of report.Machine, in which the results hold it: the program
// converts one into the other.
type Machine struct {
	CPU        string
	Cores      int
	MemoryGiB  float64
	System     string
	Go         string
	Postgres   string
	Settings   string
	SyncMS     float64 // median time to write and sync 8 KiB
	LoadBefore float64 // the system's load average at this moment
}

// Machine looks at the machine and at how Postgres is set.
func (s *Stand) Machine(ctx context.Context) (Machine, error) {
	m := Machine{
		CPU: valueOf("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Go: runtime.Version(), Postgres: s.server.Version(), Settings: settingsText(),
	}
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	kib, _, _ := strings.Cut(valueOf("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.ParseFloat(kib, 64); err == nil {
		m.MemoryGiB = math.Round(n/(1<<20)*10) / 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
		m.System = runtime.GOOS + " " + version
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		m.LoadBefore, _ = strconv.ParseFloat(first, 64)
	}
	var err error
	m.SyncMS, err = syncMS(ctx)
	return m, err
}

// valueOf reads "name : value" from a file of the kernel's; empty where there is none.
func valueOf(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// syncMS measures the disk below every commit: on a file system in memory, figures of writers say little.
func syncMS(ctx context.Context) (float64, error) {
	const tries = 50
	f, err := os.CreateTemp("", "epilogue-bench-*")
	if err != nil {
		return 0, fmt.Errorf("probing the disk: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	page := make([]byte, 8<<10)
	var took []float64
	for i := range tries {
		begun := time.Now()
		if _, err := f.WriteAt(page, int64(i*len(page))); err != nil {
			return 0, fmt.Errorf("probing the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("probing the disk: %w", err)
		}
		took = append(took, time.Since(begun).Seconds()*1000)
	}
	slices.Sort(took)
	return (took[tries/2-1] + took[tries/2]) / 2, ctx.Err()
}
