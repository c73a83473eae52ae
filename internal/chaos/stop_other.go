//go:build !linux

package main

import "os"

// Not every system can stop a process. If these are nil, that fault is not made.
var stopSignal, continueSignal os.Signal
