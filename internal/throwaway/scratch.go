package throwaway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	scratchPrefix = "epilogue-postgres-" // then our pid, for people who look, and a random part
	markerName    = "owner.lock"
	containerName = "container" // holds the name of a Docker container that goes with the directory
)

// scratch is the directory with everything that a server writes. Its owner, this process, holds a lock on the marker
// file in it. The kernel drops the lock when the owner ends, however it ends, so "can be locked" means "left behind":
// that holds across pid reuse and between containers that share /tmp, where a pid in the name would not.
type scratch struct {
	dir    string
	marker *os.File
}

// newScratch makes the directory where the user who runs the server can reach it: a TMPDIR inside root's home is no
// use to another user.
func newScratch(bases []string, runAs *account) (*scratch, error) {
	var reasons []error
	for _, base := range bases {
		if runAs != nil {
			if err := enterable(base); err != nil {
				reasons = append(reasons, err)
				continue
			}
		}
		s, err := makeScratch(base, runAs)
		if err == nil {
			return s, nil
		}
		reasons = append(reasons, err)
	}
	return nil, fmt.Errorf("no place for a data directory: %w", errors.Join(reasons...))
}

// scratchBases returns absolute paths: the server doesn't run in our working directory. A file system in memory is among
// them only where TMPDIR does not say what the user wants.
func scratchBases(memory bool) []string {
	var bases []string
	if memory && os.Getenv("TMPDIR") == "" && roomInMemory() {
		bases = append(bases, memoryDisk)
	}
	if temp, err := filepath.Abs(os.TempDir()); err == nil {
		bases = append(bases, temp)
	}
	for _, base := range []string{"/tmp", "/var/tmp"} {
		if info, err := os.Stat(base); err == nil && info.IsDir() && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	return bases
}

// enterable says whether every user may pass through the directory and all above it.
func enterable(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s is closed to other users", dir)
		}
		above := filepath.Dir(dir)
		if above == dir {
			return nil
		}
		dir = above
	}
}

func makeScratch(base string, runAs *account) (_ *scratch, err error) {
	dir, err := os.MkdirTemp(base, fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if err := s.mark(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.data(), 0o700); err != nil {
		return nil, err
	}
	if runAs == nil {
		return s, nil
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	return s, os.Chown(s.data(), int(runAs.uid), int(runAs.gid))
}

// mark locks the marker before it gets its name, so nobody ever sees one that is there and free.
func (s *scratch) mark() (err error) {
	unnamed := filepath.Join(s.dir, markerName+".new")
	if s.marker, err = os.OpenFile(unnamed, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if free, err := tryLock(s.marker); err != nil || !free {
		return fmt.Errorf("locking %s: %w", unnamed, err)
	}
	return os.Rename(unnamed, filepath.Join(s.dir, markerName))
}

func (s *scratch) data() string { return filepath.Join(s.dir, "data") }
func (s *scratch) log() string  { return filepath.Join(s.dir, "log") }

// logTail returns the end of the server's log, indented, for an error message.
func (s *scratch) logTail() string {
	content, err := os.ReadFile(s.log())
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return "the server's log ends with:\n" + lastLines(string(content))
}

func (s *scratch) remove() error {
	err := removeScratch(s.dir)
	if s.marker != nil {
		_ = s.marker.Close() // drops the lock; nothing was written
	}
	return err
}

// removeScratch removes the marker last: if it is interrupted, the next sweep still knows the directory as ours. It
// tries for a while, because a server that is about to end can still make files.
func removeScratch(dir string) (err error) {
	const attemptsMax, pause = 20, 50 * time.Millisecond
	for range attemptsMax {
		entries, _ := os.ReadDir(dir) // if it can't be read, RemoveAll says why
		for _, entry := range entries {
			if entry.Name() != markerName {
				err = os.RemoveAll(filepath.Join(dir, entry.Name()))
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err == nil {
			return nil
		}
		time.Sleep(pause)
	}
	return err
}

// sweep removes the files of servers whose owner was killed. What cannot be removed is logged and is no error.
func sweep(ctx context.Context, say logf) {
	bases := scratchBases(false)
	if memoryDisk != "" {
		bases = append(bases, memoryDisk) // however full it is
	}
	for _, base := range bases {
		dirs, _ := filepath.Glob(filepath.Join(base, scratchPrefix+"*")) // a malformed TMPDIR has nothing to sweep
		for _, dir := range dirs {
			switch swept, err := sweepOne(ctx, dir); {
			case err != nil:
				say("could not remove %s, left behind by a killed process: %v", dir, err)
			case swept:
				say("removed %s, left behind by a killed process", dir)
			}
		}
	}
}

// sweepOne removes a directory only if it is a real one, is our user's, has the marker, and nobody holds the marker.
// /tmp is open to everybody: a name alone proves nothing.
func sweepOne(ctx context.Context, dir string) (swept bool, err error) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !ownedByUs(info) {
		return false, ignoreNotExist(err)
	}
	marker, err := os.OpenFile(filepath.Join(dir, markerName), os.O_RDWR, 0)
	if err != nil {
		return false, ignoreNotExist(err)
	}
	defer func() { _ = marker.Close() }()
	if free, err := tryLock(marker); err != nil || !free {
		return false, err
	}
	name, err := os.ReadFile(filepath.Join(dir, containerName))
	if err == nil {
		err = removeContainer(ctx, string(name))
	}
	if ignoreNotExist(err) != nil {
		return false, err
	}
	return true, removeScratch(dir)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
