package keyring_test

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The tests of what a call costs are not parallel: other tests would allocate memory at the same time.

// TestACallBetweenTwoChecksOfTheFileCostsNothing: the worker makes a call for each message.
func TestACallBetweenTwoChecksOfTheFileCostsNothing(t *testing.T) {
	path := newFile(t, "default = "+hmacKey(t))
	synctest.Test(t, func(t *testing.T) { // its clock stands still while a goroutine works
		r, _ := open(t, "", path)
		before := allocated()
		for range 1000 {
			if _, ok := r.Keys(""); !ok {
				t.Fatal("Keys returns no keys, want one")
			}
		}
		if each := (allocated() - before) / 1000; each > 16 {
			t.Errorf("a call allocates %d bytes, want 16 at most: the ring checked the file", each)
		}
	})
}

// TestAFileThatDidNotChangeIsNotReadAgain, however often the ring checks it.
func TestAFileThatDidNotChangeIsNotReadAgain(t *testing.T) {
	const size, checks = 1 << 20, 50
	path := newFile(t, "default = "+hmacKey(t)+"\n"+strings.Repeat("#", size))
	age(t, path, time.Hour)
	synctest.Test(t, func(t *testing.T) {
		r, events := open(t, "", path)
		before := allocated()
		for range checks {
			time.Sleep(time.Second) // fake time: until the ring checks the file again
			if _, ok := r.Keys(""); !ok {
				t.Fatal("Keys returns no keys, want one")
			}
		}
		if all := allocated() - before; all > size {
			t.Errorf("%d checks allocated %d bytes, want %d at most: the ring read the file", checks, all, size)
		}
		if len(*events) != 1 {
			t.Errorf("got %d reports, want 1", len(*events))
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
