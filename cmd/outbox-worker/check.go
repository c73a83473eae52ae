package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// The exit statuses of check.
const (
	exitWarning  = 10
	exitCritical = 11
)

// limits are the thresholds of one kind of trouble; nil means no threshold.
type limits struct{ warning, critical *float64 }

// level is the exit status of a value.
func (l limits) level(much float64) int {
	switch {
	case l.critical != nil && much >= *l.critical:
		return exitCritical
	case l.warning != nil && much >= *l.warning:
		return exitWarning
	}
	return exitOK
}

// limitsFlag reads WARNING,CRITICAL; a single value is the warning, and off means no threshold.
type limitsFlag struct {
	limits
	ages bool // they are durations, in seconds
	text string
}

func (f *limitsFlag) Type() string {
	if f.ages {
		return "ages"
	}
	return "counts"
}
func (f *limitsFlag) String() string { return f.text }

// Set reads the flag.
func (f *limitsFlag) Set(text string) error {
	f.text, f.limits = text, limits{}
	if text == "off" {
		return nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > 2 {
		return fmt.Errorf("want WARNING,CRITICAL, a WARNING alone, or off")
	}
	for i, to := range []**float64{&f.warning, &f.critical}[:len(parts)] {
		much, err := f.read(strings.TrimSpace(parts[i]))
		if err != nil {
			return err
		}
		*to = &much
	}
	return nil
}

func (f *limitsFlag) read(text string) (float64, error) {
	if f.ages {
		var a age
		if err := a.Set(text); err != nil {
			return 0, fmt.Errorf("%q is no duration like 90s, 15m, 36h or 7d", text)
		}
		return time.Duration(a).Seconds(), nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number", text)
	}
	return float64(n), nil
}

// checkFlags are the flags of the command check.
type checkFlags struct {
	workers int
	limits  map[string]*limitsFlag // by the kind of trouble
}

func (p *program) checkCommand() *cobra.Command {
	f := checkFlags{limits: map[string]*limitsFlag{}}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "is all well? for cron, Kubernetes and monitoring",
		Long: `Says in one line whether all is well, from the last measurement of a worker (OUTBOX_SAMPLE_INTERVAL). The exit status
is 0 fine, 1 could not check, 10 warning, 11 critical. Thresholds are WARNING,CRITICAL, a WARNING alone, or off; a
value that reaches a threshold is reported. Fewer workers than --workers are critical, and so is a measurement that is
older than three intervals: then no worker runs.`,
		Example: `  outbox-worker check
  outbox-worker check --oldest-due 2m,10m --dead 1,100 --workers 2`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.check(cmd.Context(), f) },
	}
	flag := func(kind, value, what string, ages bool) {
		l := &limitsFlag{ages: ages}
		_ = l.Set(value) // of ours
		f.limits[kind] = l
		cmd.Flags().Var(l, kind, what)
	}
	cmd.Flags().IntVar(&f.workers, troubleWorkers, 1, "how many workers there must be at least; 0: any number (behind a pooler in transaction mode, workers are not seen)")
	flag(troubleOldest, "1m,5m", "how long a message may be due that is not in flight and not held back", true)
	flag(troubleWaiting, "1", "messages that wait for something that the workers lack, like a signing key", false)
	flag(troublePaused, "off", "endpoints that are paused", false)
	flag(troubleBreakers, "off", "circuit breakers that are open", false)
	flag(troubleDead, "off", "messages that are dead, cancelled ones not counted", false)
	flag(troubleHorizon, "1h,12h", "how long a transaction may keep vacuum from removing rows", true)
	flag(troubleRetention, "1h,1d", "how far retention may be behind", true)
	return cmd
}

func (p *program) check(ctx context.Context, f checkFlags) error {
	store, err := p.store(ctx)
	if err != nil {
		return couldNotCheck(err)
	}
	sample, now, err := store.Sample(ctx)
	if err != nil {
		return couldNotCheck(err)
	}
	workers, err := store.Workers(ctx)
	if err != nil {
		return couldNotCheck(err)
	}
	if now.IsZero() { // there is no sample
		if now, err = p.now(ctx); err != nil {
			return couldNotCheck(err)
		}
	}
	status, texts := f.judge(workers, sample, now)
	words := map[int]string{exitOK: "OK", exitWarning: "WARNING", exitCritical: "CRITICAL"}
	p.printf("%s: %s\n", words[status], strings.Join(texts, "; "))
	if status != exitOK {
		return errReported{status}
	}
	return nil
}

// couldNotCheck gives every error except wrong usage the exit status 1, also where other commands use another one.
func couldNotCheck(err error) error {
	if exitStatus(err) == exitUsage {
		return err
	}
	return fmt.Errorf("could not check: %w", notCheckedError{err})
}

// notCheckedError hides the kind of an error, and with it its exit status.
type notCheckedError struct{ error }

// judge returns the exit status and what to say: the troubles of the worst level first.
func (f checkFlags) judge(workers []operator.WorkerStatus, x *operator.Sample, now time.Time) (status int, texts []string) {
	byLevel := map[int][]string{}
	for _, t := range troublesOf(workers, x, now) {
		level := exitOK
		switch t.kind {
		case troubleWorkers:
			continue // below
		case troubleSample:
			level = exitCritical
		default:
			l := f.limits[t.kind]
			much := float64(t.n)
			if l.ages {
				much = t.age.Seconds()
			}
			level = l.level(much)
		}
		byLevel[level] = append(byLevel[level], t.text)
	}
	if n := living(workers, now); n < f.workers {
		text := workersLine(workers, now)
		if n > 0 {
			text = fmt.Sprintf("%d of %s", n, plural(int64(f.workers), "worker"))
		}
		byLevel[exitCritical] = append([]string{text}, byLevel[exitCritical]...)
	}
	for _, level := range []int{exitCritical, exitWarning} {
		if len(byLevel[level]) > 0 {
			status = max(status, level)
			texts = append(texts, byLevel[level]...)
		}
	}
	if status == exitOK {
		texts = append([]string{workersLine(workers, now)}, byLevel[exitOK]...)
	}
	return status, texts
}
