package stand

import (
	"fmt"
	"strconv"
	"strings"
)

// Memory of a process, in MiB.
type Memory struct {
	Resident float64 // now
	Peak     float64 // the most since it began
}

// Memory reads /proc/PID/status (proc_pid_status(5)). ok is false where there is none.
func (w *WorkerProcess) Memory() (m Memory, ok bool) {
	path := fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid)
	resident, okResident := kibibytes(valueOf(path, "VmRSS"))
	peak, okPeak := kibibytes(valueOf(path, "VmHWM"))
	return Memory{resident, peak}, okResident && okPeak
}

// kibibytes reads "1234 kB", which means KiB, and returns MiB.
func kibibytes(text string) (mebibytes float64, ok bool) {
	digits, found := strings.CutSuffix(text, " kB")
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	return n / 1024, found && err == nil
}
