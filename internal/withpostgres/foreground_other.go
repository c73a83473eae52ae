//go:build !(darwin || linux)

package main

// inForeground returns false on these systems, because the answer would take too much code. The command may get an interrupt
// twice.
func inForeground() bool { return false }
