package stand

import (
	"context"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"time"
)

// Receiver is the parent's side of the [Inbox].
type Receiver struct {
	process *exec.Cmd
	input   io.Closer // its end ends the receiver
	calls   *rpc.Client
	trial   uint32 // the current one
	awaited int    // messages that are waited for in it
}

func startReceiver() (*Receiver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting the receiver: %w", err)
	}
	cmd := exec.Command(self, ReceiverCommand)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the receiver: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the receiver: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the receiver: %w", err)
	}
	return &Receiver{process: cmd, input: in, calls: rpc.NewClient(pipe{out, in})}, nil
}

func (r *Receiver) pid() int { return r.process.Process.Pid }

func (r *Receiver) stop() error {
	_ = r.input.Close()
	_ = r.process.Wait() // its status says nothing: an interrupt from the terminal reaches it as well
	return nil
}

// Open returns the URLs of n endpoints.
func (r *Receiver) Open(n int) (urls []string, err error) {
	err = r.call("Inbox.Open", n, &urls)
	return urls, err
}

// OpenShared returns n URLs at one origin.
func (r *Receiver) OpenShared(n int) (urls []string, err error) {
	err = r.call("Inbox.OpenShared", n, &urls)
	return urls, err
}

// expect begins a trial, in which every endpoint answers at once, and returns the number that its bodies carry.
func (r *Receiver) expect(messages int) (trial uint32, err error) {
	return r.ExpectFirst(messages, messages)
}

// ExpectFirst begins a trial that is over when the first awaited of its messages came; the others may come or not.
func (r *Receiver) ExpectFirst(awaited, messages int) (trial uint32, err error) {
	r.trial++
	r.awaited = awaited
	return r.trial, r.call("Inbox.Expect", Expectation{Trial: r.trial, Messages: messages, Awaited: awaited}, &struct{}{})
}

// stalledAfter is how long a trial may go on without a new message before it is given up.
const stalledAfter = 30 * time.Second

// Await returns when every awaited message came. Without a new one for stalledAfter, that is an error.
func (r *Receiver) Await(ctx context.Context) (Progress, error) {
	const look = time.Second
	moved, distinct := time.Now(), 0
	for {
		var p Progress
		err := r.call("Inbox.Await", look, &p)
		switch {
		case err != nil:
			return p, err
		case p.Distinct == r.awaited:
			return p, nil
		case ctx.Err() != nil:
			return p, context.Cause(ctx)
		case p.Distinct > distinct:
			moved, distinct = time.Now(), p.Distinct
		case time.Since(moved) > stalledAfter:
			return p, fmt.Errorf("nothing new at the receiver for %v; %d of %d messages came", stalledAfter, p.Distinct, r.awaited)
		}
	}
}

// Progress reads the counts again: requests that came after the last message are repeats.
func (r *Receiver) Progress() (p Progress, err error) {
	err = r.call("Inbox.Await", time.Duration(0), &p)
	return p, err
}

// Arrivals returns when each message came first, in Unix nanoseconds.
func (r *Receiver) Arrivals() (at []int64, err error) {
	err = r.call("Inbox.Arrivals", struct{}{}, &at)
	return at, err
}

func (r *Receiver) call(method string, args, reply any) error {
	if err := r.calls.Call(method, args, reply); err != nil {
		return fmt.Errorf("receiver: %s: %w", method, err)
	}
	return nil
}
