package stand

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// cpuMeter measures the CPU time of this process, of the receiver, of all of Postgres, and of everything on the machine.
// On two cores these four explain a rate better than anything else. A worker that a trial started as a process counts as
// part of this one: both are the sender. It reads Linux's /proc; elsewhere it measures nothing.
type cpuMeter struct {
	receiver, postmaster int // process ids; 0: not known
}

// CPUUse is CPU time, in seconds, and the time that passed.
type CPUUse struct {
	at                                   time.Time
	Known                                bool
	Self, Receiver, Postgres, everything float64
	Elapsed                              float64 // of a difference
}

// clockTick is the unit of CPU time in /proc, the same on every Linux that Go runs on.
const clockTick = 100.0

// newCPUMeter finds the postmaster as the parent of a backend. One in a container has another process's id here: then
// its CPU is not known.
func newCPUMeter(ctx context.Context, url string, receiver int) (cpuMeter, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return cpuMeter{}, fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	m := cpuMeter{receiver: receiver}
	if backend, ok := readProcess(int(conn.PgConn().PID())); ok && strings.HasPrefix(backend.name, "postgres") {
		m.postmaster = backend.parent
	}
	return m, nil
}

func (m cpuMeter) read() CPUUse {
	u := CPUUse{at: time.Now()}
	if m.postmaster == 0 {
		return u
	}
	self, okSelf := readProcess(os.Getpid())
	receiver, okReceiver := readProcess(m.receiver)
	postmaster, okPostmaster := readProcess(m.postmaster)
	everything, okAll := readMachine()
	u.Known = okSelf && okReceiver && okPostmaster && okAll
	u.Self, u.Receiver, u.everything = self.seconds+self.childSeconds, receiver.seconds, everything
	u.Postgres = postmaster.seconds + postmaster.childSeconds
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		pid, _ := strconv.Atoi(filepath.Base(entry))
		p, ok := readProcess(pid)
		switch {
		case !ok || pid == m.receiver || pid == m.postmaster:
		case p.parent == m.postmaster:
			u.Postgres += p.seconds
		case p.parent == os.Getpid():
			u.Self += p.seconds
		}
	}
	return u
}

func (u CPUUse) since(before CPUUse) CPUUse {
	return CPUUse{
		Known: u.Known && before.Known, Elapsed: u.at.Sub(before.at).Seconds(),
		Self: u.Self - before.Self, Receiver: u.Receiver - before.Receiver, Postgres: u.Postgres - before.Postgres,
		everything: u.everything - before.everything,
	}
}

// process is what /proc says about a process.
type process struct {
	name                  string
	parent                int
	seconds, childSeconds float64 // of its own; of its children that ended
}

// readProcess parses /proc/PID/stat (proc_pid_stat(5)); the name in parentheses may hold anything.
func readProcess(pid int) (p process, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, false
	}
	before, after, found := cutLast(string(text), ") ")
	_, p.name, _ = strings.Cut(before, "(")
	fields := strings.Fields(after)
	const parent, userTime, systemTime, childUserTime, childSystemTime = 1, 11, 12, 13, 14
	if !found || len(fields) <= childSystemTime {
		return p, false
	}
	p.parent, _ = strconv.Atoi(fields[parent])
	p.seconds = seconds(fields[userTime]) + seconds(fields[systemTime])
	p.childSeconds = seconds(fields[childUserTime]) + seconds(fields[childSystemTime])
	return p, true
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

func seconds(ticks string) float64 {
	n, _ := strconv.ParseFloat(ticks, 64)
	return n / clockTick
}

// readMachine returns the CPU time of all processes, the kernel's interrupts and what a hypervisor took away.
func readMachine() (busy float64, ok bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(first)
	const user, nice, system, irq, softirq, steal = 1, 2, 3, 6, 7, 8
	if len(fields) <= steal {
		return 0, false
	}
	for _, i := range []int{user, nice, system, irq, softirq, steal} {
		busy += seconds(fields[i])
	}
	return busy, true
}

// OthersPercent is the share of all cores that went to none of the benchmark's processes: a quiet machine shows a few
// percent, most of them the kernel's.
func (u CPUUse) OthersPercent() float64 {
	others := u.everything - u.Self - u.Receiver - u.Postgres
	return max(others, 0) / (u.Elapsed * float64(runtime.NumCPU())) * 100
}

// A machine on which less than quietPercent is in use over quietFor is quiet.
const (
	quietPercent = 5.0
	quietFor     = 500 * time.Millisecond
)

// WaitUntilQuiet returns when nobody else uses the machine, or when patience ends: what others used is in the samples.
func WaitUntilQuiet(ctx context.Context, patience time.Duration) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before, ok := readMachine()
		if !ok {
			return nil
		}
		select {
		case <-time.After(quietFor):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		after, _ := readMachine()
		if (after-before)/(quietFor.Seconds()*float64(runtime.NumCPU()))*100 < quietPercent {
			return nil
		}
	}
	return nil
}
