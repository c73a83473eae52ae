package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/logtail"
)

// child is a process of the demo's. It is in a process group of its own: a Ctrl-C at the terminal reaches the demo
// alone, which then ends its children in order.
type child struct {
	name string
	cmd  *exec.Cmd
	log  *logtail.Tail
	done chan struct{} // closed when the process is gone
	err  error         // how it ended; to be read after done
}

func (d *demo) start(name, path string, env []string, args ...string) (*child, error) {
	var echo func(line string)
	if d.options.verbose {
		echo = func(line string) { d.story.line("  %-10s | %s", name, line) }
	}
	c := &child{name: name, cmd: exec.Command(path, args...), log: logtail.New(echo), done: make(chan struct{})}
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = env, c.log, c.log
	c.cmd.SysProcAttr = ownGroup()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	d.guard.tell("child %d", c.pid())
	go func() {
		c.err = c.cmd.Wait()
		d.guard.tell("ended %d", c.pid())
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// failure is how it ended, with the end of its log; nil when it ended well.
func (c *child) failure() error {
	<-c.done
	if c.err == nil {
		return nil
	}
	return fmt.Errorf("%s (pid %d): %w; its log ends with:\n%s", c.name, c.pid(), c.err, c.log)
}

// wait returns how it ended, or ends it when ctx ends first: with an interrupt, which lets go build remove its files.
func (c *child) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.failure()
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), c.end(context.Background(), os.Interrupt))
	}
}

// stop asks it to end, as a deployment would. failure says how it ended.
func (c *child) stop(ctx context.Context) error { return c.end(ctx, syscall.SIGTERM) }

// end sends a signal, and kills the process when it takes too long to end or ctx ends.
func (c *child) end(ctx context.Context, signal os.Signal) error {
	const patience = 10 * time.Second
	if c.ended() {
		return nil
	}
	_ = c.cmd.Process.Signal(signal) // it may be gone by now
	select {
	case <-c.done:
		return nil
	case <-time.After(patience):
	case <-ctx.Done():
	}
	return errors.Join(fmt.Errorf("%s (pid %d) did not end within %v of a signal (%v)", c.name, c.pid(), patience, signal), c.kill())
}

// kill ends it at once, with SIGKILL.
func (c *child) kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.done
	return nil
}
