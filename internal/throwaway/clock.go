package throwaway

import (
	"fmt"
	"path/filepath"
	"time"
)

// ClockEnv returns what Options.Env needs for a server whose clock is ahead of this machine's by offset, which has whole
// seconds and may be negative. libfaketime (a package of Debian's of that name) does it; found is false where it is not
// installed. In a container it is not there: then it has no effect.
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
				"FAKETIME_DONT_FAKE_MONOTONIC=1", // timeouts take as long as ever
				"NO_FAKE_STAT=1",
			}, true
		}
	}
	return nil, false
}
