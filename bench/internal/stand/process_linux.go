package stand

import "syscall"

// endsWithUs has the kernel kill the process when we are gone, and keeps a Ctrl-C at the terminal from it: what ends it
// is its trial.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
