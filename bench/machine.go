package main

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

// machine is where the figures come from: without it they mean nothing.
type machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGiB  float64 `json:"memory_gib"`
	System     string  `json:"system"`
	Go         string  `json:"go"`
	Postgres   string  `json:"postgres"`
	Settings   string  `json:"postgres_settings"`
	SyncMS     float64 `json:"sync_ms"`     // median time to write and sync 8 KiB
	LoadBefore float64 `json:"load_before"` // the system's load average when the run began
}

// same reports whether absolute figures of two machines can be compared.
func (m machine) same(other machine) bool {
	return m.CPU == other.CPU && m.Cores == other.Cores && m.Go == other.Go && m.Postgres == other.Postgres &&
		m.Settings == other.Settings
}

func describeMachine(ctx context.Context, s *stand) (machine, error) {
	m := machine{
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
		m.System = runtime.GOOS + " " + strings.TrimSpace(string(release))
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
	return median(took), ctx.Err()
}
