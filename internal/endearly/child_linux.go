package endearly

import "syscall"

// Child puts a child into a group of its own, so that a Ctrl-C at the terminal reaches this program alone, and has the kernel kill
// the child when the thread that started it ends: lock that thread until the child is gone.
func Child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
