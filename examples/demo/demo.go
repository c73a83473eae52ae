package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/latency"
	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/receiver"
)

// The programs that the demo builds.
const (
	module         = "github.com/seed-abbacb8b/epilogue"
	workerProgram  = "outbox-worker"
	serviceProgram = "service"
)

// What goes wrong on purpose, and the worker's times. The lease is the shortest that the worker accepts for its delivery
// timeout, so that the messages of a killed worker are soon sent again.
const (
	refusedShare    = 0.01
	rolledBackShare = 0.02
	deliveryTimeout = time.Second
	lease           = 6 * time.Second
)

// retryWaits are short, so that what the receiver refuses comes again soon.
func retryWaits() []time.Duration {
	return []time.Duration{
		200 * time.Millisecond, time.Second, time.Second, 2 * time.Second, 2 * time.Second, 5 * time.Second, 5 * time.Second,
	}
}

// listed writes durations one after the other.
func listed(durations []time.Duration, separator string, write func(time.Duration) string) string {
	var texts []string
	for _, duration := range durations {
		texts = append(texts, write(duration))
	}
	return strings.Join(texts, separator)
}

// demo is one demonstration, and what it has running.
type demo struct {
	options options
	story   *story
	closers []func(context.Context) error

	directory string // for the programs; removed in the end
	goroot    string
	guard     *guard
	database
	receiver *receiver.Receiver
	worker   *child
	service  *child
	runs     int
	course   course
	told     bool // the verdict
}

// perform is the story from beginning to end.
func (d *demo) perform(ctx context.Context) error {
	d.story.line("Every outcome that a service commits arrives as a webhook, whatever happens to the worker. Watch:\n")
	for _, part := range []func(context.Context) error{
		d.prepare, d.build, d.openDatabase, d.migrate, d.startReceiver, d.startWorker, d.submit, d.startService,
		d.watch, d.stopWorker, d.judge,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) prepare(ctx context.Context) (err error) {
	if d.directory, err = os.MkdirTemp("", "epilogue-demo-"); err != nil {
		return err
	}
	d.later(func(context.Context) error { return os.RemoveAll(d.directory) })
	if d.guard, err = startGuard(d.directory); err != nil {
		return err
	}
	d.closers = append([]func(context.Context) error{d.guard.dismiss}, d.closers...) // the very last
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w; the go command is needed to build the programs", err)
	}
	d.goroot = strings.TrimSpace(string(root))
	return nil
}

func (d *demo) build(ctx context.Context) error {
	d.story.part("programs", "building the worker and the service (the first time this takes a minute or two)")
	begun := time.Now()
	c, err := d.start("go build", "go", os.Environ(), "build", "-o", d.directory+string(filepath.Separator),
		module+"/cmd/"+workerProgram, module+"/examples/demo/"+serviceProgram)
	if err != nil {
		return err
	}
	if err := c.wait(ctx); err != nil {
		return err
	}
	d.story.part("programs", "built in %s", latency.Short(time.Since(begun)))
	return nil
}

func (d *demo) program(name string) string { return filepath.Join(d.directory, name) }

// migrate uses the worker's own command, as an operator would.
func (d *demo) migrate(ctx context.Context) error {
	c, err := d.start("migrate", d.program(workerProgram), d.workerEnvironment(), "migrate", "up")
	if err != nil {
		return err
	}
	if err := c.wait(ctx); err != nil {
		return err
	}
	d.story.part("tables", "the outbox is in schema %s (outbox-worker migrate up)", d.outboxSchema)
	return nil
}

func (d *demo) startReceiver(context.Context) (err error) {
	if d.receiver, err = receiver.Start(d.options.seed, refusedShare); err != nil {
		return err
	}
	d.later(d.receiver.Stop)
	d.story.part("receiver", "%s; answers %.0f %% of the requests with 503", d.receiver.URL(), refusedShare*100)
	return nil
}

// workerEnvironment is ours, less what the user has set for a worker of their own.
func (d *demo) workerEnvironment() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "OUTBOX_") {
			env = append(env, pair)
		}
	}
	return append(env,
		"OUTBOX_DATABASE_URL="+d.server.URL(),
		"OUTBOX_SCHEMA="+d.outboxSchema,
		"OUTBOX_ALLOW_HTTP=true",
		"OUTBOX_ALLOWED_CIDRS=127.0.0.0/8",
		"OUTBOX_DELIVERY_TIMEOUT="+deliveryTimeout.String(),
		"OUTBOX_LEASE="+lease.String(),
		"OUTBOX_RETRY_SCHEDULE="+listed(retryWaits(), ",", time.Duration.String),
		"OUTBOX_SHUTDOWN_TIMEOUT=5s",
		"OUTBOX_ADMIN_ADDR="+d.options.metrics,
	)
}

func (d *demo) startWorker(context.Context) error {
	if err := d.runWorker(); err != nil {
		return err
	}
	d.later(func(ctx context.Context) error { return d.worker.stop(ctx) })
	d.story.part("worker", "pid %d; a claim holds for %s, retries come after %s", d.worker.pid(), latency.Short(lease),
		listed(retryWaits(), ", ", latency.Short))
	return nil
}

func (d *demo) runWorker() (err error) {
	d.worker, err = d.start("worker", d.program(workerProgram), d.workerEnvironment(), "run")
	return err
}

// stopWorker ends it as a deployment would: everything is delivered, so it has nothing to wait for.
func (d *demo) stopWorker(ctx context.Context) error {
	begun := time.Now()
	if err := d.worker.stop(ctx); err != nil {
		return err
	}
	if err := d.worker.failure(); err != nil {
		return err
	}
	d.story.part("worker", "stopped with SIGTERM, in %s", latency.Short(time.Since(begun)))
	return nil
}

func (d *demo) runService(name string, args ...string) (*child, error) {
	args = append(args, "-root", d.goroot, "-schema", d.serviceSchema, "-outbox-schema", d.outboxSchema,
		"-seed", fmt.Sprint(d.options.seed), "-engine", d.options.engine)
	return d.start(name, d.program(serviceProgram), append(os.Environ(), "DATABASE_URL="+d.server.URL()), args...)
}

// submit makes the runs before any of them is begun.
func (d *demo) submit(ctx context.Context) error {
	c, err := d.runService("submit", "submit", "-callback", d.receiver.URL(), "-files", fmt.Sprint(d.options.files))
	if err != nil {
		return err
	}
	if err := c.wait(ctx); err != nil {
		return err
	}
	if err := d.pool.QueryRow(ctx, d.in("SELECT count(*) FROM demo.run")).Scan(&d.runs); err != nil {
		return err
	}
	if d.runs == 0 {
		return errors.New("the service submitted no run")
	}
	return nil
}

func (d *demo) startService(context.Context) (err error) {
	if d.service, err = d.runService("service", "work", "-failing", fmt.Sprint(rolledBackShare)); err != nil {
		return err
	}
	d.later(func(ctx context.Context) error { return d.service.stop(ctx) })
	d.story.part("service", "pid %d; %d runs, one for each file below src and test of %s", d.service.pid(), d.runs, d.goroot)
	if d.options.engine == "river" {
		d.story.part("", "steps: read, parse, measure, verdict; each is a River job that hook/riverstep settles in a transaction,")
	} else {
		d.story.part("", "steps: read, parse, measure, verdict; each is acknowledged in a transaction,")
	}
	d.story.part("", "the last one together with the outcome; %.0f %% are rolled back on purpose\n", rolledBackShare*100)
	return nil
}
