package throwaway

import (
	"os"
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel send SIGQUIT, which ends Postgres at once and with all its children, when our thread
// that started it ends. See launch for the thread.
func endWithParent(attributes *syscall.SysProcAttr) {
	attributes.Pdeathsig = syscall.SIGQUIT
}

// shareLock makes a process hold the marker's lock together with us. If we are killed, the directory is in use until the
// process is gone, too: files that are swept from under a server make it crash, and leave its shared memory behind.
func shareLock(cmd *exec.Cmd, marker *os.File) {
	cmd.ExtraFiles = append(cmd.ExtraFiles, marker)
}
