//go:build unix

package throwaway

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheSweepTouchesOnlyOurDirectories(t *testing.T) {
	temp := t.TempDir()
	outside := filepath.Join(temp, "outside")
	must(t, os.Mkdir(outside, 0o700))
	must(t, os.WriteFile(filepath.Join(outside, markerName), nil, 0o600))

	unmarked := filepath.Join(temp, scratchPrefix+"unmarked")
	must(t, os.Mkdir(unmarked, 0o700))
	link := filepath.Join(temp, scratchPrefix+"link")
	must(t, os.Symlink(outside, link))
	file := filepath.Join(temp, scratchPrefix+"file")
	must(t, os.WriteFile(file, nil, 0o600))
	held, err := makeScratch(temp, nil)
	must(t, err)
	paths := []string{unmarked, link, file, held.dir}
	if os.Geteuid() == 0 {
		others := filepath.Join(temp, scratchPrefix+"others")
		must(t, os.Mkdir(others, 0o700))
		must(t, os.WriteFile(filepath.Join(others, markerName), nil, 0o600))
		const somebody = 65534
		must(t, os.Chown(others, somebody, somebody))
		paths = append(paths, others)
	}

	for _, path := range paths {
		if swept, err := sweepOne(t.Context(), path); swept || err != nil {
			t.Errorf("sweepOne(%s) returns %v, %v, want that it leaves the path alone", path, swept, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(outside, markerName)); err != nil {
		t.Errorf("sweepOne followed the link and removed its target: %v", err)
	}
	must(t, held.remove())
}

func TestTheSweepRemovesADirectoryThatNoProcessLocks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), scratchPrefix+"left")
	must(t, os.MkdirAll(filepath.Join(dir, "data", "base"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, markerName), nil, 0o600))
	if swept, err := sweepOne(t.Context(), dir); !swept || err != nil {
		t.Errorf("sweepOne returns %v, %v, want true", swept, err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the directory is still there after the sweep")
	}
}
