package throwaway

import (
	"path/filepath"
	"testing"
)

func TestAServerKeepsItsFilesInMemoryWhereThatIsWantedAndThereIsRoom(t *testing.T) {
	temp := ownTemp(t)
	for _, c := range []struct {
		what   string
		memory bool
		temp   string
		want   string
	}{
		{"wanted", true, "", memoryDisk},
		{"not wanted", false, "", "/tmp"},
		{"wanted, but TMPDIR names another place", true, temp, temp},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.want == memoryDisk && !roomInMemory() {
				t.Skipf("%s or the memory has less than %d bytes free", memoryDisk, int64(memoryMin))
			}
			t.Setenv("TMPDIR", c.temp)
			s, err := Start(t.Context(), Options{Own: true, Memory: c.memory, Log: t.Logf})
			must(t, err)
			dir := s.engine.(*local).scratch.dir
			if got := filepath.Dir(dir); got != c.want {
				t.Errorf("its files are in %s, want %s", got, c.want)
			}
			if got := query(t, s.URL(), "SELECT current_setting('data_directory')"); filepath.Dir(got) != dir {
				t.Errorf("the server writes to %s, want %s", got, dir)
			}
			must(t, s.Stop())
			mustNotExist(t, dir)
		})
	}
}

func TestOnlyAFileSystemInMemoryHasRoomInMemory(t *testing.T) {
	if n := roomOn("/proc"); n != 0 {
		t.Errorf("/proc has room for %d bytes, want 0", n)
	}
	if n := roomOn("/no/such/directory"); n != 0 {
		t.Errorf("a directory that does not exist has room for %d bytes, want 0", n)
	}
	if n := memoryAvailable(); n < 1<<20 || n > 1<<50 {
		t.Errorf("%d bytes of memory are available, want more than a MiB and less than a PiB", n)
	}
}

func TestFilesInMemoryOfAKilledProcessAreRemoved(t *testing.T) {
	if roomOn(memoryDisk) == 0 {
		t.Skipf("%s is no file system in memory", memoryDisk)
	}
	left, err := makeScratch(memoryDisk, nil)
	must(t, err)
	must(t, left.marker.Close()) // as at the death of its owner
	sweep(t.Context(), t.Logf)
	mustNotExist(t, left.dir)
}
