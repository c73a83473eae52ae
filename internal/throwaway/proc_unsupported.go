//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package throwaway

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// serverAccount is the first function here that is called to run a server. Docker, and a server named in the
// environment, work without it.
func serverAccount() (*account, error) {
	return nil, fmt.Errorf("running one is not supported on %s", runtime.GOOS)
}

func processAttributes(*account) *syscall.SysProcAttr { return nil }

func shareLock(*exec.Cmd, *os.File) {}

// tryLock can't lock; together with ownedByUs, which never says yes, that means that nothing is swept.
func tryLock(*os.File) (free bool, err error) { return true, nil }

func ownedByUs(os.FileInfo) bool { return false }
