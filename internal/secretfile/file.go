// Package secretfile reads a file of secrets again when it has changed: signing keys, and headers.
package secretfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// BytesMax bounds a file.
const BytesMax = 16 << 20

// File remembers what it read, to recognise a change. The zero value with a Path has read nothing. It is not safe for
// concurrent use.
type File struct {
	Path string
	info fs.FileInfo       // of what was read; nil when the file may change without a change of its times
	seen [sha256.Size]byte // of the content, or of the fault
}

// settleTime is the age at which a later change must show in the modification time of a file: a tick of the clock, and as much
// as file systems round to. A younger file is read again and compared.
const settleTime = 2 * time.Second

// Read returns the file's content, or the reason that it cannot be read, and whether either is new.
func (f *File) Read() (content, warning string, changed bool, err error) {
	info, err := os.Stat(f.Path) // through symbolic links: a mounted secret is swapped by one
	if err == nil && f.info != nil && unchanged(info, f.info) {
		return "", "", false, nil
	}
	if err == nil && !info.Mode().IsRegular() { // opening a pipe could take for ever
		err = errors.New("is not a regular file")
	}
	if err == nil {
		content, info, err = readWhole(f.Path)
	}
	seen := sha256.Sum256([]byte("content " + content))
	f.info = nil
	if err != nil {
		err = bare(err)
		seen = sha256.Sum256([]byte("fault " + err.Error()))
	} else if time.Since(info.ModTime()) > settleTime {
		f.info = info
	}
	changed = seen != f.seen
	f.seen = seen
	if changed && err == nil {
		warning = f.warn(info.Mode())
	}
	return content, warning, changed, err
}

func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

var errBeingWritten = errors.New("is being written all the time; replace it by a rename")

// readWhole returns the content and the state of the file. It reads again when the file changes meanwhile.
func readWhole(path string) (content string, info fs.FileInfo, err error) {
	const tries = 3
	for range tries {
		content, info, err = readOnce(path)
		if !errors.Is(err, errBeingWritten) {
			break
		}
	}
	return content, info, err
}

func readOnce(path string) (string, fs.FileInfo, error) {
	opened, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = opened.Close() }()
	before, err := opened.Stat()
	if err != nil {
		return "", nil, err
	}
	content, err := io.ReadAll(io.LimitReader(opened, BytesMax+1))
	if err != nil {
		return "", nil, err
	}
	if len(content) > BytesMax {
		return "", nil, fmt.Errorf("has more than %d bytes, the limit", BytesMax)
	}
	after, err := opened.Stat()
	if err == nil && !unchanged(before, after) {
		err = errBeingWritten
	}
	return string(content), after, err
}

// bare drops the path from an error of package os: the caller names it.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// warn says who else can change or read the secrets. The group may read them: that is a usual way to give a secret to a
// service.
//
// A secret that Kubernetes or Docker mounts is readable to all by default, but only inside its container, so no warning is
// given for it.
func (f *File) warn(mode fs.FileMode) string {
	if runtime.GOOS == "windows" { // where these bits say nothing
		return ""
	}
	const othersWrite, othersRead = 0o022, 0o004
	switch perm := mode.Perm(); {
	case perm&othersWrite != 0:
		return fmt.Sprintf("others than its owner can change it (mode %04o); chmod go-w", perm)
	case perm&othersRead != 0 && !mountedSecret(f.Path):
		return fmt.Sprintf("every user of this machine can read it (mode %04o); chmod o-r", perm)
	}
	return ""
}

// mountedSecret knows the directories of Docker, Podman and Kubernetes, and the latter's way to swap a volume's content:
// a symbolic link "..data" to a directory named after the time.
func mountedSecret(path string) bool {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for _, directory := range []string{"/run/secrets/", "/var/run/secrets/"} {
		if strings.HasPrefix(resolved, directory) {
			return true
		}
	}
	return strings.Contains(resolved, "/..") // resolved paths hold no ".." of the other kind
}
