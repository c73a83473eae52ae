package stand

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Drainer is a contender that is ready to drain a backlog.
type Drainer struct {
	Run  func(ctx context.Context) error         // works until ctx ends
	Done func(ctx context.Context) (bool, error) // whether every result is recorded; asked when all messages arrived
}

// Drained is the result of a drain.
type Drained struct {
	Used    CPUUse
	Took    time.Duration // from the first arrival to the last result on record: starting up is not draining
	Arrived []int64       // when each message that was waited for came first, in Unix nanoseconds
	Conns   int           // that the receiver accepted
	Repeats int           // requests beyond one per message
}

// RunDrainer runs a drainer until the number of messages that the trial waits for is delivered and recorded.
func (t *Trial) RunDrainer(ctx context.Context, messages int, d Drainer) (all Drained, err error) {
	if t.BeforeDrain != nil {
		if err := t.BeforeDrain(ctx); err != nil {
			return all, err
		}
	}
	var p Progress
	var end time.Time
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	all.Used, err = t.Timed(func() (err error) {
		go func() {
			defer stop() // a drainer that gives up ends the waiting for it
			ended <- d.Run(running)
		}()
		if p, err = t.Receiver.Await(running); err != nil {
			return err
		}
		err = UntilDone(running, d.Done)
		end = time.Now()
		return err
	})
	stop()
	if err = errors.Join(<-ended, err); err != nil {
		return all, err
	}
	last, err := t.Receiver.Progress()
	if err != nil {
		return all, err
	}
	arrived, err := t.Receiver.Arrivals()
	if err != nil {
		return all, err
	}
	all.Took, all.Arrived = end.Sub(time.Unix(0, p.First)), arrived[:messages]
	all.Conns, all.Repeats = last.Conns, last.Requests-last.Distinct
	return all, nil
}

// lookEvery is how often Done is called: a short time compared with a trial, and a long one compared with the call.
const lookEvery = 5 * time.Millisecond

// UntilDone asks until the answer is yes. After stalledAfter without one, that is an error.
func UntilDone(ctx context.Context, done func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	until := time.Now().Add(stalledAfter)
	for {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("all messages arrived, but %v later not all results are recorded", stalledAfter)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
