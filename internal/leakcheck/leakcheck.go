// Package leakcheck fails the tests of a package that leave goroutines behind:
//
//	func TestMain(m *testing.M) { leakcheck.Main(m) }
package leakcheck

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a goroutine may take to end after the tests. goleak's own, less than half a second, is too short for
// a loaded machine, on which a server's or a connection's goroutine ends later than the test that closed it.
const patience = 30 * time.Second

// Main runs the tests, and fails when they leave a goroutine.
func Main(m *testing.M) {
	status := m.Run()
	if status == 0 {
		if err := Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

// Find returns an error that shows the goroutines that do not end.
func Find() error {
	deadline := time.Now().Add(patience)
	for {
		err := goleak.Find()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
