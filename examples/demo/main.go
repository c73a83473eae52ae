// Command demo shows Epilogue at work, and checks it: every outcome that a service commits arrives as a webhook, although
// some of its transactions are rolled back, the receiver refuses some requests, and the worker is killed in the middle.
//
//	make demo        or        go run ./examples/demo -files 2000
//
// It finds or starts a throwaway Postgres, migrates, starts a receiver, the worker as its own process, and an example
// service whose runs are real work on real input: every file of the installed Go distribution. At the end it compares
// what the service committed with what the receiver got. It exits with 1 if an outcome is missing, if one arrived that
// was never committed, or if a body differs; and it cleans up after itself, on Ctrl-C too.
//
// The tree:
//
//	demo.go       the story, from beginning to end        service/            the example service, a process of its own
//	watch.go      mid-run: progress, the kill             internal/receiver   the other side, with its own record
//	evidence.go   what the database says                  internal/compare    what is missing, made up or altered
//	report.go     the comparison, told                    internal/latency    the histogram
//	guard.go      what cleans up when the demo is killed
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/endearly"
)

// The exit statuses.
const (
	exitFault       = 1 // something could not be started, or the comparison found a fault
	exitUsage       = 2
	exitInterrupted = 130
)

// options are the flags of the command line.
type options struct {
	files   int
	seed    uint64
	engine  string
	metrics string
	kill    bool
	keep    bool
	verbose bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == guardCommand {
		guardMain(os.Stdin, os.Args[2:])
		return
	}
	os.Exit(run(os.Args[1:]))
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run prints what is to be said
	flags.IntVar(&o.files, "files", 0, "how many files at most, spread over all of them; 0 for all, about 15000")
	flags.Uint64Var(&o.seed, "seed", 1, "decides the order of the runs, what is rolled back and what is refused")
	flags.StringVar(&o.engine, "engine", "river", "what the service runs its steps on: river (hook/riverstep), or table (its own step table)")
	flags.StringVar(&o.metrics, "metrics", "off", "serve the worker's /metrics at this `HOST:PORT`, for a Prometheus to scrape (monitoring/README.md)")
	flags.BoolVar(&o.kill, "kill", true, "kill the worker with SIGKILL in the middle, and start it again")
	flags.BoolVar(&o.keep, "keep", false, "leave the database, to look into it afterwards")
	flags.BoolVar(&o.verbose, "v", false, "show what the worker and the service log")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("demo shows Epilogue at work, and checks it.\n\nusage:  go run ./examples/demo [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
	}
	if err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.engine != "river" && o.engine != "table" {
		return o, fmt.Errorf("-engine is %q; want river or table", o.engine)
	}
	if o.files < 0 {
		return o, fmt.Errorf("-files is %d; want 0 or more", o.files)
	}
	return o, nil
}

func run(args []string) (status int) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer endearly.Watch(cancel)()
	d := &demo{options: o, story: newStory(os.Stdout, cancel)}
	err = d.perform(ctx)
	interrupted := context.Cause(ctx)
	if d.told {
		interrupted = nil // all was said
	}
	if interrupted != nil {
		d.story.line("")
		d.story.part("ended", "%v; cleaning up", interrupted)
	}
	cleanErr := d.cleanUp()
	switch {
	case interrupted != nil && cleanErr == nil:
		d.story.part("ended", "processes, temporary files and database are gone")
		return exitInterrupted
	case errors.Is(err, errVerdict) && cleanErr == nil:
		return exitFault // all was said
	case err != nil || cleanErr != nil:
		fmt.Fprintf(os.Stderr, "demo: %v\n", errors.Join(err, cleanErr))
		return exitFault
	}
	return 0
}

// cleanUpMax bounds the whole clean-up.
const cleanUpMax = time.Minute

// later registers f to be called when the demo ends, in the reverse order.
func (d *demo) later(f func(context.Context) error) { d.closers = append(d.closers, f) }

func (d *demo) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpMax)
	defer cancel()
	var faults []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		faults = append(faults, d.closers[i](ctx))
	}
	d.closers = nil
	return errors.Join(faults...)
}
