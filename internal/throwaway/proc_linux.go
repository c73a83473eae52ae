package throwaway

import "syscall"

// endWithParent has the kernel send SIGQUIT, which ends Postgres at once and with all its children, when our thread
// that started it ends. See launch for the thread.
func endWithParent(attributes *syscall.SysProcAttr) {
	attributes.Pdeathsig = syscall.SIGQUIT
}
