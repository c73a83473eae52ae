//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// onHangup calls f on each SIGHUP until stop, which waits for the current call. Without it the signal ends the process.
func onHangup(f func()) (stop func()) {
	signals, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range signals {
			f()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-ended
	}
}
