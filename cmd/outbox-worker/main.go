// Outbox-worker delivers the outcomes of workflow runs as webhooks, and lets an operator read and change the outbox.
//
// It runs in three steps: parse (root.go, settings.go), run (a file per command) and close. Only main touches the process, with
// one exception: a running worker listens for SIGHUP (hangup_unix.go). All other code goes through run, so that tests start the
// real program.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(start()) }

// start runs the program and turns the first signal into the end of its context. A second one ends the process.
func start() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	const pending = 2 // only the first two matter
	signals := make(chan os.Signal, pending)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(fmt.Errorf("received the signal: %v", <-signals))
		<-signals
		fmt.Fprintln(os.Stderr, "outbox-worker: ended at once by a second signal; requests in flight are repeated when their leases end")
		os.Exit(exitFailed)
	}()
	return run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
}
