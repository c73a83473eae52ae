// Package endearly is for programs that start other processes: it lets them end in order, and ends those processes too.
package endearly

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Watch calls cancel when a signal comes or the process that started this one is gone: `go run` passes on no signal but those of
// the terminal. The function that it returns ends the watch.
func Watch(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 8)
	// SIGPIPE too: a program whose output is piped into head must still remove its database. Its writes fail instead.
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
					cancel(errors.New("stopped, because the process that started this one is gone"))
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
