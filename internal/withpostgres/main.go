// Withpostgres runs a command with a Postgres server to use, and leaves nothing of the server behind.
//
// See usage for how; package throwaway says where the server comes from.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

const usage = `withpostgres runs a command with a Postgres server to use, and leaves nothing of the server behind.

usage:    go run ./internal/withpostgres [-fsync] -- COMMAND [ARG...]
example:  go run ./internal/withpostgres -- go test ./...

The command finds the server's URL in EPILOGUE_DATABASE_URL. If that is set already, the server that it names is used
and left running. Otherwise a server is started: from a Postgres 14 or newer on this machine, or one that the package
manager installs (unless EPILOGUE_INSTALL_POSTGRES=no), or with Docker. It trusts every user of this machine. Its
files are in memory where Linux has 4 GiB free for that, otherwise in /tmp; if TMPDIR is set, they are there.

  -fsync  write through to the disk, which is slower and survives a crash of the machine: for what measures or crashes it

The exit status is the command's: 128 and the signal's number if a signal ended it, 127 if it couldn't be started, 1 if
there is no server, 2 for a wrong usage. (go run itself makes every failure a 1.)
`

const (
	exitNoServer   = 1
	exitUsage      = 2
	exitNotStarted = 127
	exitSignalBase = 128
)

// options are the flags of the command line.
type options struct {
	settings map[string]string
	command  []string
}

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run returns the exit status. It handles signals as long as there is something to clean up: the server must be stopped here,
// because the death of this process would leave its files to the next start.
func run(args []string, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "withpostgres: %v\n\n%s", err, usage)
		return exitUsage
	}
	say := func(format string, args ...any) {
		fmt.Fprintf(stderr, "withpostgres: "+format+"\n", args...)
	}

	const pending = 8 // more signals than come before they are handled
	signals := make(chan os.Signal, pending)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	server, err := start(o.settings, signals, say)
	if err != nil {
		say("%v", err)
		return exitNoServer
	}
	status := runCommand(o.command, server.URL(), signals, say)
	if err := server.Stop(); err != nil {
		say("%v", err)
	}
	return status
}

func parse(args []string) (options, error) {
	flags := flag.NewFlagSet("withpostgres", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run prints what is to be said
	fsync := flags.Bool("fsync", false, "")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() == 0 {
		return options{}, errors.New("no command given")
	}
	o := options{command: flags.Args()}
	if *fsync {
		o.settings = map[string]string{"fsync": "on"}
	}
	return o, nil
}

// start gives up, with everything cleaned up, when a signal comes.
func start(settings map[string]string, signals <-chan os.Signal, say func(string, ...any)) (*throwaway.Server, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	started := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case s := <-signals:
			cancel(fmt.Errorf("stopped by a signal: %v", s))
		case <-started:
		}
	}()
	begun := time.Now()
	server, err := throwaway.Start(ctx, throwaway.Options{
		Log: say, Settings: settings, Install: true, Memory: settings == nil, // -fsync wants the disk
	})
	close(started)
	<-watched // from here on the signals are the command's
	if err == nil && ctx.Err() != nil {
		// The signal came when the server had just started: do not start the command.
		err = errors.Join(context.Cause(ctx), server.Stop())
	}
	cancel(nil)
	if err == nil && server.Owned() {
		say("ready after %v; it is removed when the command ends", time.Since(begun).Round(time.Millisecond))
	}
	return server, err
}
