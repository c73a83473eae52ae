package stand

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/endearly"
)

// workerPackage is the program that an operator runs: its memory, death and endurance are measured.
const workerPackage = "github.com/seed-abbacb8b/epilogue/cmd/outbox-worker"

// builder builds the worker's program once in a run, when the first trial asks for it. Trials follow one another, so it
// needs no lock.
type builder struct {
	say                func(string, ...any)
	directory, program string
}

func (b *builder) build(ctx context.Context) (program string, err error) {
	if b.program != "" {
		return b.program, nil
	}
	if b.directory == "" {
		if b.directory, err = os.MkdirTemp("", "epilogue-bench-"); err != nil {
			return "", fmt.Errorf("building the worker: %w", err)
		}
	}
	program = filepath.Join(b.directory, "outbox-worker")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	b.say("building the worker, once")
	text, err := exec.CommandContext(ctx, "go", "build", "-o", program, workerPackage).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("building the worker: %w; the go command is needed for it", err)
	case err != nil:
		return "", fmt.Errorf("building the worker: %w; bench has to be run within the module. It says:\n%s", err, text)
	}
	b.program = program
	return program, nil
}

// remove deletes the program again.
func (b *builder) remove() error {
	if b.directory == "" {
		return nil
	}
	return os.RemoveAll(b.directory)
}

// WorkerProcess is a worker in a process of its own. It ends with its trial, and on Linux with this process, however that
// ends.
type WorkerProcess struct {
	// running ends when the process does, with the end of its log as the cause. Whatever waits for the worker uses this context,
	// and so stops waiting when the worker is gone.
	Running context.Context

	cmd   *exec.Cmd
	Begun time.Time // when the process was started
	log   workerLog
	gone  chan struct{} // closed when the process is
	exit  error         // to be read after gone
}

// readyMax is how long a worker may take from its start to its first scan for messages.
const readyMax = 30 * time.Second

// StartWorker starts a worker on the trial's schema and returns when it works. Settings are NAME=VALUE without OUTBOX_;
// other settings have their defaults, except those that let it deliver on loopback. The caller ends it.
func (t *Trial) StartWorker(ctx context.Context, settings ...string) (*WorkerProcess, error) {
	program, err := t.builder.build(ctx)
	if err != nil {
		return nil, err
	}
	w := &WorkerProcess{
		cmd: exec.CommandContext(ctx, program, "run"), gone: make(chan struct{}), log: newWorkerLog(),
	}
	w.cmd.Env = workerEnvironment(os.Environ(), append([]string{
		"DATABASE_URL=" + t.DB.URL, "SCHEMA=" + t.DB.Schema, "ALLOW_HTTP=true", "ALLOWED_CIDRS=127.0.0.0/8", "ADMIN_ADDR=off",
	}, settings...))
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	w.cmd.SysProcAttr = endearly.Child()
	if err := w.launch(ctx); err != nil {
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	select {
	case <-w.log.ready:
		return w, nil
	case <-w.Running.Done():
		return nil, context.Cause(w.Running)
	case <-time.After(readyMax):
		return nil, errors.Join(fmt.Errorf("the worker does not work %v after its start; its log ends with:\n%s", readyMax, w.log), w.End())
	}
}

// launch starts the process. Linux treats the thread that made a process as its parent, so that thread
// is kept until the process is gone.
func (w *WorkerProcess) launch(ctx context.Context) error {
	running, cancel := context.WithCancelCause(ctx)
	w.Running = running
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		w.Begun = time.Now()
		err := w.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		w.exit = w.cmd.Wait()
		close(w.gone)
		cancel(fmt.Errorf("the worker's process ended (%v); its log ends with:\n%s", w.cmd.ProcessState, w.log))
	}()
	return <-started
}

// workerEnvironment is ours, less what its user has set for a worker of their own.
func workerEnvironment(ours, settings []string) []string {
	const prefix = "OUTBOX_"
	env := slices.DeleteFunc(slices.Clone(ours), func(pair string) bool { return strings.HasPrefix(pair, prefix) })
	for _, setting := range settings {
		env = append(env, prefix+setting)
	}
	return env
}

// Kill ends the process as a power cut would end it, and returns when it is gone.
func (w *WorkerProcess) Kill() error {
	if err := w.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing the worker: %w", err)
	}
	<-w.gone
	return nil
}

// Stop asks it to end as a deployment does, and returns when it has ended. A trial requires that it ends well and in time.
func (w *WorkerProcess) Stop(patience time.Duration) error {
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping the worker: %w", err)
	}
	select {
	case <-w.gone:
	case <-time.After(patience):
		return fmt.Errorf("the worker did not end within %v of SIGTERM; its log ends with:\n%s", patience, w.log)
	}
	if w.exit != nil {
		return fmt.Errorf("the worker ended with %w; its log ends with:\n%s", w.exit, w.log)
	}
	return nil
}

// End makes sure that nothing is left, whatever state it is in.
func (w *WorkerProcess) End() error { return w.Kill() }
