package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/endearly"
	"github.com/seed-abbacb8b/epilogue/internal/logtail"
)

// child is a process that this one started. It has its own process group, so that a Ctrl-C at the terminal reaches only this
// process, which then ends its children in order. If the system supports it, a child ends with this process.
type child struct {
	name string
	cmd  *exec.Cmd
	log  *logtail.Tail
	done chan struct{} // closed when the process is gone
	err  error         // how it ended; to be read after done
}

// startChild starts a program. If each is not nil, it is called with each line of the program's standard output.
func startChild(name, path string, env []string, each func(line string), echo func(line string), args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(path, args...), log: logtail.New(echo), done: make(chan struct{})}
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = env, c.log, c.log
	if each != nil {
		c.cmd.Stdout = logtail.New(each)
	}
	c.cmd.SysProcAttr = endearly.Child()
	started := make(chan error, 1)
	go func() {
		// For the kernel, the parent is the thread that starts a child, so that thread stays until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := c.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *child) signal(s os.Signal) { _ = c.cmd.Process.Signal(s) } // it may have ended already

// kill ends the child at once with SIGKILL, even if it is stopped.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// stop asks the child to end and returns how long that took. After the bound it is killed, which is an error.
func (c *child) stop(bound time.Duration) (time.Duration, error) {
	begun := time.Now()
	c.signal(syscall.SIGTERM)
	select {
	case <-c.done:
		if c.err != nil {
			return time.Since(begun), fmt.Errorf("%s ended with %w; its log ends with:\n%s", c.name, c.err, c.log)
		}
		return time.Since(begun), nil
	case <-time.After(bound):
		c.kill()
		return time.Since(begun), fmt.Errorf("%s did not end within %v of SIGTERM; its log ends with:\n%s", c.name, bound, c.log)
	}
}

// wait returns how the child ended, or kills it after the bound.
func (c *child) wait(bound time.Duration) error {
	select {
	case <-c.done:
	case <-time.After(bound):
		c.kill()
		return fmt.Errorf("%s did not end within %v", c.name, bound)
	}
	if c.err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%s: %w", c.name, c.err), errors.New(c.log.String()))
}
