package worker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recurring"
)

// callbacksMost is how many calls of a callback wait at once. Beyond, they are dropped and counted: whoever is slow to listen
// never slows the deliveries down.
const callbacksMost = 1024

// callbacksEnd is how long a stop waits for the calls that are still to be made.
const callbacksEnd = time.Second

// callbacks calls a function of the embedding program, one call at a time and on a goroutine of its own. A nil one is for
// nobody.
type callbacks[T any] struct {
	name    string
	call    func(T)
	in      chan T
	dropped instruments.Counter
	faults  *recurring.Log

	once    sync.Once
	stopped chan struct{} // closed when nothing comes any more
	ended   chan struct{}
}

// newCallbacks returns nil for a nil function.
func newCallbacks[T any](name string, call func(T), dropped instruments.Counter, faults *recurring.Log) *callbacks[T] {
	if call == nil {
		return nil
	}
	return &callbacks[T]{
		name: name, call: call, in: make(chan T, callbacksMost), dropped: dropped, faults: faults,
		stopped: make(chan struct{}), ended: make(chan struct{}),
	}
}

// tell has the function called soon, or drops the call when too many wait.
func (c *callbacks[T]) tell(x T) {
	if c == nil {
		return
	}
	select {
	case c.in <- x:
	default:
		c.dropped.Add(1)
	}
}

// run calls until stop, and then for what is left.
func (c *callbacks[T]) run() {
	defer close(c.ended)
	for {
		select {
		case x := <-c.in:
			c.one(x)
			continue
		default:
		}
		select {
		case x := <-c.in:
			c.one(x)
		case <-c.stopped:
			if len(c.in) == 0 {
				return
			}
		}
	}
}

// one calls once. What panics is the embedding program's; the deliveries go on, and so do the calls.
func (c *callbacks[T]) one(x T) {
	defer func() {
		if r := recover(); r != nil {
			c.faults.Tell(context.Background(), slog.LevelError, c.name, c.name+" panicked", slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
		}
	}()
	c.call(x)
}

func (c *callbacks[T]) start() {
	if c != nil {
		go c.run()
	}
}

// stop has the calls that wait made, and returns when they are, when ctx ends, or after callbacksEnd. A call that hangs is left
// behind, and what waits for it is dropped.
func (c *callbacks[T]) stop(ctx context.Context) {
	if c == nil {
		return
	}
	c.once.Do(func() {
		close(c.stopped)
		timer := time.NewTimer(callbacksEnd)
		defer timer.Stop()
		select {
		case <-c.ended:
		case <-timer.C:
			c.dropped.Add(len(c.in))
		case <-ctx.Done():
			c.dropped.Add(len(c.in))
		}
	})
}
