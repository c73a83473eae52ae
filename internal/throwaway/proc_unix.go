//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package throwaway

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// serverAccount returns the user that a server must run as: nil for ourselves, and another user if we are root.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseInt(u.Uid, 10, 64)
		gid, errGID := strconv.ParseInt(u.Gid, 10, 64)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("Postgres doesn't run as root, and there is neither a user postgres nor nobody")
}

// processAttributes puts a process into a group of its own, under the account it must run as, and makes it end with us
// where the system can do that.
func processAttributes(runAs *account) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if runAs != nil {
		attributes.Credential = &syscall.Credential{Uid: runAs.uid, Gid: runAs.gid}
	}
	endWithParent(attributes)
	return attributes
}

// tryLock locks an open file for this process, until it is closed, unless somebody else has it locked.
func tryLock(f *os.File) (free bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func ownedByUs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
