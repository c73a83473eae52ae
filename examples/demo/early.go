package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// endEarly ends the demo, with everything cleaned up, when a signal comes or nobody is there any more who started it:
// `go run` passes on no signal but the terminal's. The function it returns ends the watch.
func endEarly(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 8)
	// SIGPIPE, too: who pipes the story into head must not leave a database behind. What is written then fails instead.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	parent, done := os.Getppid(), make(chan struct{})
	go func() {
		look := time.NewTicker(500 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGPIPE {
					cancel(fmt.Errorf("stopped by a signal (%v)", s))
				}
			case <-look.C:
				if os.Getppid() != parent {
					cancel(fmt.Errorf("stopped, for the process that started the demo is gone"))
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
