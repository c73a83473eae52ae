package throwaway

import (
	"fmt"
	"path/filepath"
	"time"
)

// ClockEnv returns the value of Options.Env for a server whose clock is ahead of this machine's by offset, in whole seconds;
// offset may be negative. The library libfaketime (in the Debian package of that name) changes the clock; found is false if it
// is not installed. It has no effect on a server in a container, because the library is missing there.
func ClockEnv(offset time.Duration) (env []string, found bool) {
	for _, pattern := range []string{
		"/usr/lib/*/faketime/libfaketime.so.1", // Debian, Ubuntu
		"/usr/lib*/faketime/libfaketime.so.1",  // Fedora, Arch, Alpine
		"/usr/local/lib/faketime/libfaketime.so.1",
	} {
		if matches, _ := filepath.Glob(pattern); len(matches) > 0 { // its only error is a malformed pattern
			return []string{
				"LD_PRELOAD=" + matches[0],
				fmt.Sprintf("FAKETIME=%+d", int(offset.Seconds())),
				"FAKETIME_DONT_FAKE_MONOTONIC=1", // timeouts take as long as usual
				"NO_FAKE_STAT=1",
			}, true
		}
	}
	return nil, false
}
