package throwaway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// errEnded is the error of a server that has ended by itself.
var errEnded = errors.New("the server has ended")

// process is a server process, and the goroutine that waits for it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	exit error         // how it ended; to be read after done
}

// launch starts the process. On Linux a child is signalled when its parent ends, and the kernel takes the thread that made it
// as the parent. So the goroutine that starts the process keeps its thread until the process is gone; otherwise Go might end
// that thread, and the server with it, at any time.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.exit = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return p, nil
}

// ended returns errEnded, with the exit status, if the process is gone, otherwise nil.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%w: %v", errEnded, p.cmd.ProcessState)
	default:
		return nil
	}
}

// end asks the server to end in the wanted way and returns when it's gone: SIGINT closes connections and shuts down
// cleanly, SIGQUIT ends at once. Both wait for the server's own children. If it takes too long, a stronger signal follows.
func (p *process) end(how syscall.Signal) error {
	const limit = 15 * time.Second
	for _, signal := range []syscall.Signal{how, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("signalling the server: %w", err)
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(limit):
		}
	}
	return fmt.Errorf("the server (pid %d) doesn't end", p.cmd.Process.Pid)
}

// runToEnd runs a program until it ends, and returns what it printed. If the program fails, its output is in the error. The
// command must have been made with ctx, so that the end of ctx ends it early.
func runToEnd(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	p, err := launch(cmd)
	if err == nil {
		<-p.done
	}
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", filepath.Base(cmd.Path), context.Cause(ctx))
	case err != nil:
		return "", err
	case p.exit != nil:
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), p.exit, lastLines(output.String()))
	}
	return output.String(), nil
}

// lastLines returns the end of a program's output, indented, for an error message.
func lastLines(output string) string {
	const linesMax = 15
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-linesMax):], "\n    ")
}
