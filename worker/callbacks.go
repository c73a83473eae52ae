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

// callbacksMost is how many calls of a callback wait at once. Further calls are dropped and counted, so that a slow callback
// never delays deliveries.
const callbacksMost = 1024

// callbacksEnd is how long a stop waits for the remaining calls.
const callbacksEnd = time.Second

// callbacks calls a function of the embedding program, one call at a time and on a goroutine of its own. A nil one calls
// nothing.
type callbacks[T any] struct {
	name    string
	call    func(T)
	in      chan T
	dropped instruments.Counter
	faults  *recurring.Log

	once    sync.Once
	stopped chan struct{} // closed when no further call comes
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

// tell queues a call of the function, or drops it when too many wait.
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

// run calls the function until stop, and then makes the remaining calls.
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

// one makes one call. A panic is the embedding program's fault: deliveries and further calls go on.
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

// stop makes the remaining calls. It returns when they are made, when ctx ends, or after callbacksEnd. A call that hangs is left
// behind, and the calls behind it are dropped.
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
