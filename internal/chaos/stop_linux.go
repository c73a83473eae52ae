package main

import (
	"os"
	"syscall"
)

// The signals that stop a process and let it go on.
var stopSignal, continueSignal os.Signal = syscall.SIGSTOP, syscall.SIGCONT
