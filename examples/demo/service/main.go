// Command service is the demo's embedding service. Its runs write their outcome through the hook, in the transaction that
// acknowledges their last step. It can do the same work in two ways: on hook/riverstep (river.go, the
// default), or with a small workflow engine of its own that acknowledges each step in its own table (engine.go,
// store.go; -engine table).
//
// A run is one file of the Go distribution, and goes through the steps read, parse, measure, verdict. A file that does
// not parse fails its run with the parser's message; one that is too large cancels it. The service may be killed at any
// time: started again, it goes on with each run after the last step that was acknowledged.
//
//	service submit -root "$(go env GOROOT)" -callback http://127.0.0.1:9000/hook    # a run per file, then ends
//	service work -root "$(go env GOROOT)"                                           # ends when every run has ended
//
// It finds its database in DATABASE_URL. Run by itself, it needs the outbox's tables: outbox-worker migrate up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "service: stopped; started again, it goes on where it was")
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "service: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags of the command line.
type options struct {
	command      string
	schema       string
	outboxSchema string
	root         string
	callback     string
	files        int
	workers      int
	engine       string
	seed         uint64
	failing      float64
}

// The engines.
const (
	onRiver = "river"
	onTable = "table"
)

// workersDefaultMax leaves room on a server that allows a hundred connections.
const workersDefaultMax = 32

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("service submit|work", flag.ContinueOnError)
	flags.StringVar(&o.schema, "schema", "demo", "schema of the service's own tables")
	flags.StringVar(&o.outboxSchema, "outbox-schema", outbox.DefaultSchema, "schema of the outbox")
	flags.StringVar(&o.root, "root", "", "the Go distribution, whose src and test trees are read")
	flags.StringVar(&o.callback, "callback", "", "submit: the URL that gets the outcome of each run")
	flags.IntVar(&o.files, "files", 0, "submit: how many files at most, spread over all of them; 0 for all")
	flags.IntVar(&o.workers, "workers", min(4*runtime.NumCPU(), workersDefaultMax), "work: runs at a time, each with a connection")
	flags.StringVar(&o.engine, "engine", onRiver, "what takes runs through their steps: river (hook/riverstep), or table (the service's own step table)")
	flags.Uint64Var(&o.seed, "seed", 1, "decides the order of the runs and which acknowledgements fail on purpose")
	flags.Float64Var(&o.failing, "failing", 0, "work: share of the acknowledgements that are rolled back on purpose, 0 to 1")
	if len(args) > 0 {
		o.command, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	return o, o.validate(flags.Args())
}

func (o options) validate(rest []string) error {
	var faults []error
	if o.command != "submit" && o.command != "work" || len(rest) > 0 {
		faults = append(faults, errors.New("want: service submit [flags], or service work [flags]"))
	}
	if o.root == "" {
		faults = append(faults, errors.New("-root is empty; name the Go distribution, as `go env GOROOT` prints it"))
	}
	if o.command == "submit" && o.callback == "" {
		faults = append(faults, errors.New("-callback is empty; name a URL, or start a receiver: outbox-worker receive"))
	}
	if o.engine != onRiver && o.engine != onTable {
		faults = append(faults, fmt.Errorf("-engine is %q; want river or table", o.engine))
	}
	if o.workers < 1 || o.workers > 1000 {
		faults = append(faults, fmt.Errorf("-workers is %d; want 1 to 1000", o.workers))
	}
	if o.files < 0 {
		faults = append(faults, fmt.Errorf("-files is %d; want 0 or more", o.files))
	}
	if o.failing < 0 || o.failing > 0.5 {
		faults = append(faults, fmt.Errorf("-failing is %v; want 0 to 0.5", o.failing))
	}
	faults = append(faults, outbox.CheckSchema(o.schema))
	return errors.Join(faults...)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("DATABASE_URL is empty; want a server whose outbox was migrated, like postgres://user@host/database")
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	config.MaxConns = int32(o.workers) + 8 // the waker's and the feeder's, or River's own
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	terminal, err := hook.NewWebhook(hook.WebhookConfig{
		Schema: o.outboxSchema, ForwardHeaders: []string{compare.AttemptHeader},
	})
	if err != nil {
		return err
	}
	s := newStore(pool, o.schema, terminal)
	if o.command == "submit" {
		return submit(ctx, s, o, terminal, out)
	}
	return work(ctx, s, o)
}

func submit(ctx context.Context, s *store, o options, terminal *hook.WebhookTerminalHook, out io.Writer) error {
	// What can never be delivered would be a dead message later: now the submitter can still be told.
	if err := terminal.CheckHeaders(map[string]string{hook.DefaultURLHeader: o.callback}); err != nil {
		return fmt.Errorf("-callback: %w", err)
	}
	paths, err := list(o.root, o.files, o.seed)
	if err != nil {
		return err
	}
	if err := s.create(ctx); err != nil {
		return err
	}
	into := s.submit
	if o.engine == onRiver {
		e, err := newRiverEngine(s, o, nil, slog.Default())
		if err != nil {
			return err
		}
		into = e.submit
	}
	n, err := into(ctx, paths, o.callback)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d runs submitted\n", n)
	return err
}

func work(ctx context.Context, s *store, o options) error {
	waker, err := outbox.NewWaker(s.pool, o.outboxSchema)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if o.engine == onRiver {
		e, err := newRiverEngine(s, o, waker.Wake, log)
		if err != nil {
			return errors.Join(err, waker.Close(ctx))
		}
		return errors.Join(e.run(ctx), waker.Close(ctx))
	}
	e := &engine{
		store: s, wake: waker.Wake, root: o.root, workers: o.workers, seed: o.seed, failing: o.failing, log: log,
	}
	return errors.Join(e.run(ctx), waker.Close(ctx))
}
