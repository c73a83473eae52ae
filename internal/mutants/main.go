// Mutants puts bugs into the code of this project, one at a time, and reports those that no test finds.
//
//	main.go     the command, and what it reports
//	places.go   the places in Go code where a bug can be put
//	sql.go      the same in the SQL of a string
//	trial.go    the tests run against one bug
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `mutants puts bugs into the project's code, one at a time, and reports those that no test finds.

usage:    go run ./internal/mutants [-n 20] [-seed N] [-own] [-list] PACKAGE...
example:  make mutants ARGS='-n 50 -seed 7 ./hook/riverstep ./worker/internal/schedule'

No file is changed: the compiler is given the changed text in the place of the file's. A mutant is killed when a test of
its own package fails, or one of a package that imports it or whose tests do. Comparisons of an error with nil are left alone. A survivor
either shows a test that is missing, or code that no promise needs, or it is equivalent: it changes nothing that anybody can
see.

`

const (
	exitSurvivors = 1
	exitUsage     = 2
)

type options struct {
	n        int
	seed     uint64
	own      bool
	list     bool
	packages []string
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "mutants:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	survivors, err := mutate(ctx, o, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "mutants:", err)
		return exitUsage
	}
	if survivors > 0 {
		return exitSurvivors
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	flags.IntVar(&o.n, "n", 20, "how many mutants, drawn evenly from all places; 0: every one")
	flags.Uint64Var(&o.seed, "seed", 0, "of the draw; a random one when 0")
	flags.BoolVar(&o.own, "own", false, "run the tests of a mutant's own package only")
	flags.BoolVar(&o.list, "list", false, "list the mutants, and run nothing")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.packages = flags.Args(); len(o.packages) == 0 || o.n < 0 {
		return o, errors.New("name the packages whose code is to be changed, and a number of mutants from 0")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000)
	}
	return o, nil
}

// tally counts the results of the mutants.
type tally struct{ killed, hung, unbuilt, survived int }

// mutate draws mutants, tries each, and returns how many survived.
func mutate(ctx context.Context, o options, out io.Writer) (survivors int, err error) {
	targets, err := load(ctx, o.packages)
	if err != nil {
		return 0, err
	}
	drawn := draw(targets, o.seed)
	fmt.Fprintf(out, "%d places in %d packages; seed %d\n", len(drawn), len(targets), o.seed)
	if o.list {
		for _, m := range drawn {
			fmt.Fprintln(out, m)
		}
		return 0, nil
	}
	if t := untested(targets); o.own && t != "" {
		return 0, fmt.Errorf("%s has no tests of its own: its mutants are tried without -own", t)
	}
	trials, err := newTrials(ctx, o.own)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, trials.close()) }()
	var all tally
	for _, m := range drawn {
		if o.n > 0 && all.killed+all.hung+all.survived == o.n {
			break
		}
		began := time.Now()
		outcome, err := trials.try(ctx, m)
		if err != nil {
			return all.survived, err
		}
		all.add(outcome)
		if outcome != unbuilt {
			fmt.Fprintf(out, "%-8s %v (%.0f s)\n", outcome, m, time.Since(began).Seconds())
		}
	}
	fmt.Fprintf(out, "%d killed, %d hung until their time was over, %d survived; %d more did not build. Seed %d\n",
		all.killed, all.hung, all.survived, all.unbuilt, o.seed)
	return all.survived, nil
}

func (t *tally) add(o outcome) {
	switch o {
	case killed:
		t.killed++
	case hung:
		t.hung++
	case unbuilt:
		t.unbuilt++
	default:
		t.survived++
	}
}

// draw puts all mutants into an order that the seed decides.
func draw(targets []*target, seed uint64) (all []mutant) {
	for _, t := range targets {
		all = append(all, t.mutants...)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
