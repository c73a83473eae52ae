//go:build !(darwin || linux)

package main

// inForeground can't be known here without more code than it's worth: the command may get an interrupt twice.
func inForeground() bool { return false }
