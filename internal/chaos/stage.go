package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
)

// The worker's times. The lease is the shortest that is allowed with its delivery timeout.
const (
	deliveryTimeout = time.Second
	lease           = 6 * time.Second
	poll            = 200 * time.Millisecond
	shutdownTimeout = 3 * time.Second
	stopMax         = shutdownTimeout + 3*time.Second // 2 s are promised; a busy machine may need one more
	startMax        = time.Minute
)

// retryWaits are short, and so many that a message that fails for a while is still delivered in the end.
const retryWaits = "200ms,500ms,1s,1s,1s,1s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s"

// attemptsMax is how often a message is tried.
var attemptsMax = strings.Count(retryWaits, ",") + 2

// process is a worker or a writer, which is killed and started again, with its own proxy to the database.
type process struct {
	name  string
	proxy *faulty.Proxy
	start func(url string, incarnation int) (*child, error)

	mu      sync.Mutex // guards the fields below, also against the end of the trial
	child   *child
	started int // how many times
}

// run starts the process, for the first time or again.
func (p *process) run(databaseURL string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	url, err := p.proxy.URL(databaseURL)
	if err != nil {
		return err
	}
	p.started++
	p.child, err = p.start(url, p.started)
	return err
}

func (p *process) current() *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

// stage is all that runs in a trial.
type stage struct {
	options options
	say     func(format string, args ...any)
	broken  func(violation)
	poison  *set
	closers []func() error

	directory string
	program   string // the worker's
	servers   servers
	proxy     *faulty.Proxy // the administrator's proxy to the present primary, which never fails
	admin     *pgxpool.Pool // to observe, and to make faults
	receiver  *receiver
	workers   []*process
	writers   []*process

	countMu     sync.Mutex              // guards what follows
	counted     map[string]writerCounts // by incarnation of a writer
	stops       int                     // by SIGTERM
	longestStop time.Duration
}

// later registers f to be called when the stage is cleared, in reverse order.
func (s *stage) later(f func() error) { s.closers = append(s.closers, f) }

func (s *stage) cleanUp() error {
	var faults []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		faults = append(faults, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(faults...)
}

// build starts everything except the writers.
func (s *stage) build(ctx context.Context) error {
	for _, part := range []func(context.Context) error{
		s.compile, s.openDatabase, s.migrate, s.openReceiver, s.startWorkers,
	} {
		if err := part(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

const directoryPrefix = "epilogue-chaos-" // and the process's id

// sweep removes the directories of trials that were killed with SIGKILL. Their processes have ended with them.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), directoryPrefix+"*")) // its only error is a malformed pattern
	for _, directory := range left {
		id, _, ok := strings.Cut(strings.TrimPrefix(filepath.Base(directory), directoryPrefix), "-")
		pid, err := strconv.Atoi(id)
		if err != nil || !ok {
			continue
		}
		process, err := os.FindProcess(pid)
		if err != nil || errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
			_ = os.RemoveAll(directory)
		}
	}
}

func (s *stage) compile(ctx context.Context) (err error) {
	sweep()
	if s.directory, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", directoryPrefix, os.Getpid())); err != nil {
		return err
	}
	s.later(func() error { return os.RemoveAll(s.directory) })
	s.say("building outbox-worker")
	s.program = filepath.Join(s.directory, "outbox-worker")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", s.program, "github.com/seed-abbacb8b/epilogue/cmd/outbox-worker")
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 5*time.Second // an interrupt lets it remove its files
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// migrate uses the worker's own command, as an operator would.
func (s *stage) migrate(ctx context.Context) error {
	c, err := startChild("migrate", s.program, s.workerEnv(s.url(), "migrate"), nil, nil, "migrate", "up")
	if err != nil {
		return err
	}
	if err := c.wait(startMax); err != nil {
		return err
	}
	return createChaos(ctx, s.admin)
}

func (s *stage) openReceiver(context.Context) (err error) {
	s.receiver, err = startReceiver(s.options.seed)
	if err != nil {
		return err
	}
	s.later(s.receiver.stop)
	var names []string
	for _, b := range behaviours {
		names = append(names, b.name)
	}
	s.say("receiver: %d origins: %s", len(names), strings.Join(names, ", "))
	return nil
}

func (s *stage) workerEnv(url, name string) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "OUTBOX_") && !strings.HasPrefix(pair, "PG") {
			env = append(env, pair)
		}
	}
	return append(env,
		"OUTBOX_DATABASE_URL="+url+"&pool_max_conns=10",
		"OUTBOX_NAME="+name,
		"OUTBOX_ALLOW_HTTP=true",
		"OUTBOX_ALLOWED_CIDRS=127.0.0.0/8",
		"OUTBOX_DELIVERY_TIMEOUT="+deliveryTimeout.String(),
		"OUTBOX_LEASE="+lease.String(),
		"OUTBOX_POLL_INTERVAL="+poll.String(),
		"OUTBOX_RETRY_SCHEDULE="+retryWaits,
		"OUTBOX_OPEN_FOR=500ms",
		"OUTBOX_OPEN_FOR_MAX=2s",
		"OUTBOX_SHUTDOWN_TIMEOUT="+shutdownTimeout.String(),
		"OUTBOX_ADMIN_ADDR=off",
	)
}

func (s *stage) startWorkers(context.Context) error {
	for i := range s.options.workers {
		name := fmt.Sprintf("worker-%d", i)
		p := &process{name: name, start: func(url string, _ int) (*child, error) {
			return startChild(name, s.program, s.workerEnv(url, name), nil, s.echo(name), "run")
		}}
		s.workers = append(s.workers, p)
		if err := s.startProcess(p); err != nil {
			return err
		}
	}
	s.say("workers: %d, lease %v, poll %v, delivery timeout %v", len(s.workers), lease, poll, deliveryTimeout)
	return nil
}

func (s *stage) startWriters(context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.counted = map[string]writerCounts{}
	for i, kind := range writerKinds {
		p := &process{name: "writer " + kind, start: func(url string, incarnation int) (*child, error) {
			name := fmt.Sprintf("%s-%d", kind, incarnation)
			return startChild(kind, self, os.Environ(), func(line string) { s.count(name, line) }, s.echo(kind), writerCommand,
				"-kind", kind, "-url", url, "-urls", strings.Join(s.receiver.urls(), ","), "-name", name,
				"-rate", fmt.Sprint(s.options.rate/float64(len(writerKinds))),
				"-seed", fmt.Sprint(s.options.seed*1000+uint64(i*100+incarnation)))
		}}
		s.writers = append(s.writers, p)
		if err := s.startProcess(p); err != nil {
			return err
		}
	}
	s.say("writers: %s; together %v runs a second", strings.Join(writerKinds, ", "), s.options.rate)
	return nil
}

// startProcess gives a process a proxy and runs it until the stage is cleared.
func (s *stage) startProcess(p *process) error {
	var err error
	if p.proxy, err = s.newProxy(); err != nil {
		return err
	}
	if err := p.run(s.url()); err != nil {
		return err
	}
	s.later(func() error { p.current().kill(); return nil })
	return nil
}

// echo shows a process's log.
func (s *stage) echo(name string) func(line string) {
	if !s.options.verbose {
		return nil
	}
	return func(line string) { s.say("  %-10s | %s", name, line) }
}

func (s *stage) count(name, line string) {
	var c writerCounts
	if json.Unmarshal([]byte(line), &c) != nil {
		return // half a line of a process that was killed
	}
	s.countMu.Lock()
	defer s.countMu.Unlock()
	s.counted[name] = c
}

// stopped records how long a worker took to end after SIGTERM. It is a violation if it takes too long or fails.
func (s *stage) stopped(name string, took time.Duration, err error) {
	s.countMu.Lock()
	s.stops++
	s.longestStop = max(s.longestStop, took)
	s.countMu.Unlock()
	if err != nil {
		s.broken(violation{rule: "stop", what: err.Error(), from: time.Now().Add(-took), to: time.Now()})
	}
}

// written sums up the counts that the writers have printed.
func (s *stage) written() (sum writerCounts) {
	s.countMu.Lock()
	defer s.countMu.Unlock()
	for _, c := range s.counted {
		sum.Committed += c.Committed
		sum.RolledBack += c.RolledBack
		sum.Unknown += c.Unknown
		sum.Failed += c.Failed
		sum.Repeated += c.Repeated
	}
	return sum
}
