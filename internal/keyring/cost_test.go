package keyring_test

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The tests of what a call costs are not parallel: others would allocate beside them.

// TestACallBetweenTwoLooksCostsNothing: a set is asked for with each message.
func TestACallBetweenTwoLooksCostsNothing(t *testing.T) {
	path := newFile(t, "default = "+hmacKey(t))
	synctest.Test(t, func(t *testing.T) { // whose clock stands still while somebody works
		r, _ := open(t, "", path)
		before := allocated()
		for range 1000 {
			if _, ok := r.Keys(""); !ok {
				t.Fatal("no keys")
			}
		}
		if each := (allocated() - before) / 1000; each > 16 {
			t.Errorf("a call allocates %d bytes: the file was looked at", each)
		}
	})
}

// TestAFileThatDidNotChangeIsNotRead again, however often it is looked at.
func TestAFileThatDidNotChangeIsNotRead(t *testing.T) {
	const size, looks = 1 << 20, 50
	path := newFile(t, "default = "+hmacKey(t)+"\n"+strings.Repeat("#", size))
	age(t, path, time.Hour)
	synctest.Test(t, func(t *testing.T) {
		r, events := open(t, "", path)
		before := allocated()
		for range looks {
			time.Sleep(time.Second) // of the bubble: until the file is looked at again
			if _, ok := r.Keys(""); !ok {
				t.Fatal("no keys")
			}
		}
		if all := allocated() - before; all > size {
			t.Errorf("%d looks allocated %d bytes: the file was read", looks, all)
		}
		if len(*events) != 1 {
			t.Errorf("%d events", len(*events))
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
