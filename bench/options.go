package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// options are the flags of the command line.
type options struct {
	scenarios  []scenario // those to run, each with the contenders to run
	short      bool
	rounds     int
	json       string
	from       string
	into       string
	report     string
	compare    string
	cpuProfile string
	wait       time.Duration
	list       bool
}

const usage = `bench measures this project beside its peers, on a Postgres of its own.

usage:    go run ./bench [flags]
example:  go run ./bench -short -only drain,latency

`

const (
	roundsFull  = 5
	roundsShort = 1
	roundsLimit = 1000
)

func parseOptions(args []string, out io.Writer) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		_, _ = fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.short, "short", false, "less work in each trial: all of it in about a minute, with a wider spread")
	flags.IntVar(&o.rounds, "rounds", 0, fmt.Sprintf("rounds that count (default %d, with -short %d)", roundsFull, roundsShort))
	flags.StringVar(&only, "only", "", "run only these `SCENARIO[/CONTENDER],...`")
	flags.StringVar(&o.json, "json", "", "write the results, every round of them, to `FILE`")
	flags.StringVar(&o.report, "report", "", "write the report as a page, "+report.PageFile+", with its drawings, into `DIR`")
	flags.StringVar(&o.from, "from", "", "measure nothing: report what an earlier run's -json `FILE` says")
	flags.StringVar(&o.into, "into", "", "replace the scenarios measured now in an earlier run's -json `FILE`, and report all of it")
	flags.StringVar(&o.compare, "compare", "", "compare with an earlier run's -json `FILE`")
	flags.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile of each counted trial's timed part into `DIR`")
	flags.DurationVar(&o.wait, "wait", 0, "how long to wait at most for a quiet machine before each trial; disturbed trials are made again")
	flags.BoolVar(&o.list, "list", false, "list the scenarios, contenders and budgets, and run nothing")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag; try -help", flags.Arg(0))
	}
	if o.into != "" && o.from != "" {
		return o, errors.New("-into measures and -from does not; choose one")
	}
	if o.rounds == 0 {
		o.rounds = roundsFull
		if o.short {
			o.rounds = roundsShort
		}
	}
	if o.rounds < 1 || o.rounds > roundsLimit {
		return o, fmt.Errorf("-rounds is %d; want 1 to %d", o.rounds, roundsLimit)
	}
	var err error
	o.scenarios, err = chosen(scenarios(), only)
	return o, err
}

// chosen keeps the scenarios and contenders that -only names, in their own order; all of them when it names none.
func chosen(all []scenario, only string) ([]scenario, error) {
	if only == "" {
		return all, nil
	}
	wanted := map[string][]string{} // contenders by scenario; none means every one
	for _, name := range strings.Split(only, ",") {
		name, contender, one := strings.Cut(strings.TrimSpace(name), "/")
		i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no scenario %q; -list lists them", name)
		}
		if !one {
			wanted[name] = contenderNames(all[i].contenders)
			continue
		}
		if !slices.Contains(contenderNames(all[i].contenders), contender) {
			return nil, fmt.Errorf("-only: scenario %s has no contender %q; -list lists them", name, contender)
		}
		wanted[name] = append(wanted[name], contender)
	}
	var kept []scenario
	for _, s := range all {
		names, ok := wanted[s.name]
		if !ok {
			continue
		}
		s.contenders = slices.DeleteFunc(slices.Clone(s.contenders), func(c contender) bool {
			return !slices.Contains(names, c.name)
		})
		kept = append(kept, s)
	}
	return kept, nil
}

func contenderNames(contenders []contender) []string {
	var names []string
	for _, c := range contenders {
		names = append(names, c.name)
	}
	return names
}

func printList(out io.Writer, all []scenario) error {
	for _, s := range all {
		_, err := fmt.Fprintf(out, "%s: %s\n", s.name, s.about)
		if err != nil {
			return err
		}
		for _, c := range s.contenders {
			_, _ = fmt.Fprintf(out, "    %-12s %s\n", c.name, c.about)
		}
		for _, b := range s.budgets {
			_, _ = fmt.Fprintf(out, "    budget       %s: %s\n", b.Name(), b.Bound())
		}
	}
	return nil
}
