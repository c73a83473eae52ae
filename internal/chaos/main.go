// Command chaos is a seeded test of the real programs under faults: writers and outbox-worker run as processes of their
// own, over real sockets, on a throwaway Postgres, while the database, the network, the processes and the receiver fail.
//
//	make chaos ARGS='-for 1h -seed 7'        or        go run ./internal/chaos -for 1m
//
// A checker, which shares no code with the programs, checks during the trial and at its end:
//
//   - Safety: each committed acknowledgement has its message, and no other run has one; bodies and headers arrive as they
//     were committed; a message is sent again after a 2xx only if a fault overlapped its recording; a dead message has a
//     reason that the receiver gave.
//   - Liveness: a due message that nothing holds back is tried within a bound, by a worker that the present faults do not
//     touch; after the last fault, everything is settled.
//
// It exits with 1 if one of these does not hold, and prints the evidence. The seed decides what the writers write, what the
// receiver answers, and which faults come in which order. It does not decide the exact times.
//
// The tree:
//
//	main.go       the command line                     receiver.go   origins that misbehave, and their record
//	stage.go      what runs, and how it is started     timeline.go   which fault was when, and what it touches
//	trial.go      from the first to the last minute    plan.go       faults drawn from the seed
//	servers.go    the database, and its standby        faults_*.go   the faults
//	child.go      a process                            watch.go      liveness: how long what is due waits
//	writer*.go    the writers' program                 ledger.go     what was committed, and what the outbox says
//	content.go    what a run leaves behind             checker.go    safety: what was committed, sent and settled
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/endearly"
)

// The exit statuses.
const (
	exitFault       = 1 // a violation, or a program could not be started
	exitUsage       = 2
	exitInterrupted = 130
)

// options are the values of the command line.
type options struct {
	length  time.Duration
	seed    uint64
	workers int
	rate    float64
	faults  []string
	standby bool
	clock   time.Duration
	verbose bool
}

// wants reports whether faults of this kind are made.
func (o options) wants(kind string) bool {
	if kind == failoverKind && o.standby {
		return true
	}
	return len(o.faults) == 0 && !slices.Contains(onRequest, kind) || slices.Contains(o.faults, kind)
}

const writerCommand = "writer" // as the first argument: run as a writer

func main() {
	if len(os.Args) > 1 && os.Args[1] == writerCommand {
		os.Exit(writerMain(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:]))
}

func parse(args []string) (options, error) {
	var o options
	var faults string
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run prints the error
	flags.DurationVar(&o.length, "for", time.Minute, "how long faults are made; building and settling come on top")
	flags.Uint64Var(&o.seed, "seed", 0, "decides contents, answers and faults; 0 draws one, which is printed")
	flags.IntVar(&o.workers, "workers", 3, "outbox-worker processes; 2 to 8")
	flags.Float64Var(&o.rate, "rate", 60, "runs ended per second, of all writers together")
	flags.StringVar(&faults, "faults", "", "faults to choose from, separated by commas: "+strings.Join(faultNames(), ", ")+". Empty: all but "+strings.Join(onRequest, ", "))
	flags.BoolVar(&o.standby, "failover", false, "with a standby, synchronous, which takes over now and then")
	flags.DurationVar(&o.clock, "clock", 0, "how far the database's clock is ahead of the programs', in whole seconds; needs libfaketime")
	flags.BoolVar(&o.verbose, "v", false, "show what the workers and the writers log")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("chaos tests the real programs under faults.\n\nusage:  go run ./internal/chaos [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
	}
	if err != nil {
		return o, err
	}
	if faults != "" {
		o.faults = strings.Split(faults, ",")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	return o, o.check(flags.Args())
}

func (o options) check(rest []string) error {
	var faults []error
	if len(rest) > 0 {
		faults = append(faults, fmt.Errorf("unexpected argument %q", rest[0]))
	}
	if o.length < time.Second {
		faults = append(faults, fmt.Errorf("-for is %v; want 1s or more", o.length))
	}
	if o.workers < 2 || o.workers > 8 {
		faults = append(faults, fmt.Errorf("-workers is %d; want 2 to 8", o.workers))
	}
	if !(o.rate >= 1 && o.rate <= 1000) {
		faults = append(faults, fmt.Errorf("-rate is %v; want 1 to 1000", o.rate))
	}
	for _, name := range o.faults {
		if !slices.Contains(faultNames(), name) {
			faults = append(faults, fmt.Errorf("-faults: there is no %q", name))
		}
	}
	return errors.Join(faults...)
}

func run(args []string) (status int) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer endearly.Watch(cancel)()
	fmt.Printf("chaos: seed %d, for %v (the same again: -seed %d -for %v)\n", o.seed, o.length, o.seed, o.length)

	t := newTrial(o, os.Stdout)
	err = t.run(ctx)
	interrupted := context.Cause(ctx)
	if interrupted != nil {
		t.say("interrupted: %v; the check covers what has happened so far", interrupted)
	}
	passed := t.report(err, interrupted != nil)
	if cleanErr := t.cleanUp(); cleanErr != nil {
		fmt.Fprintf(os.Stderr, "chaos: cleaning up: %v\n", cleanErr)
		return exitFault
	}
	switch {
	case !passed:
		return exitFault
	case interrupted != nil:
		return exitInterrupted
	}
	return 0
}
