//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package throwaway

import (
	"os"
	"os/exec"
	"syscall"
)

// endWithParent isn't possible here. If we are killed, the server stays until the next Start removes its files; it notices
// that within a minute, and ends.
func endWithParent(*syscall.SysProcAttr) {}

// shareLock must not be done here: the sweep is what ends a server whose parent was killed.
func shareLock(*exec.Cmd, *os.File) {}
