package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == stand.ReceiverCommand {
		os.Exit(stand.ServeReceiver())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	o, err := parseOptions(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.list {
		return printList(os.Stdout, scenarios())
	}
	var earlier *report.Results
	if o.compare != "" {
		if earlier, err = report.ReadResults("-compare", o.compare); err != nil { // before the long part, not after it
			return err
		}
	}
	whole, err := readWhole(o)
	if err != nil {
		return err
	}
	found, failed := find(ctx, o)
	if len(found.Scenarios) == 0 {
		return failed
	}
	ran := describeAll(o.scenarios)
	if whole != nil {
		if both, err := whole.With(found); err != nil { // what was measured is reported by itself
			failed = errors.Join(failed, err)
		} else {
			found, ran = both, describeAll(scenarios())
			failed = errors.Join(failed, report.WriteResults(o.into, found))
		}
	}
	report.Print(os.Stdout, found, ran)
	if earlier != nil {
		report.PrintComparison(os.Stdout, *earlier, found, ran)
	}
	if o.json != "" && o.from != "" {
		failed = errors.Join(failed, report.WriteResults(o.json, found))
	}
	if o.report != "" {
		failed = errors.Join(failed, report.WritePage(o.report, found, ran, describeAll(scenarios())))
	}
	return failed
}

// readWhole reads the results into which this run's are put, if any.
func readWhole(o options) (*report.Results, error) {
	if o.into == "" {
		return nil, nil
	}
	return report.ReadResults("-into", o.into)
}

// find measures, or reads the results of an earlier run. Beside an error it returns what was found before.
func find(ctx context.Context, o options) (found report.Results, err error) {
	if o.from != "" {
		earlier, err := report.ReadResults("-from", o.from)
		if err != nil {
			return found, err
		}
		return *earlier, nil
	}
	s, err := stand.New(ctx, say)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return measureAll(ctx, s, o, func(found report.Results) error {
		if o.json == "" {
			return nil
		}
		return report.WriteResults(o.json, found)
	})
}

// say tells on stderr what is going on; the report alone is on stdout.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
