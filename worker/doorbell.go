package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// doorbell looks for due messages: at every poll interval, and on a wake as soon as the pace of looking allows. What it
// finds it makes known to the drain of this process, and it rings for one when none runs. To one that runs it passes the
// wake on, for a claim finds by itself what is fresh, and looks a little later for what is not.
type doorbell struct {
	looker  *looker
	known   *known
	client  *river.Client[pgx.Tx]
	drainer *drainer
	outage  *door
	poll    time.Duration
	wake    chan struct{} // holds a token when a wake arrived
	ask     chan struct{} // holds a token when a drain began that may know nothing
	rungAt  time.Time
}

// ringPause is the least time between two rings.
const ringPause = 50 * time.Millisecond

// wakeLook is how long after a wake the look is made while a drain runs.
const wakeLook = 100 * time.Millisecond

// run looks and rings until ctx ends.
func (b *doorbell) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	owed := false        // a look: something may have become due since the last one began
	var lookBy time.Time // after a wake that was passed on
	for {
		again := b.poll
		select {
		case <-ctx.Done():
			b.looker.underWay.Wait()
			return
		case <-timer.C:
			owed = true
		case <-b.drainer.rest:
			if !b.drainer.handsOver.Swap(false) {
				owed = true
			} else if err := b.ring(ctx); err != nil { // at once: a look may take long
				owed = true
				_ = b.outage.wait(ctx, err)
			}
		case <-b.ask:
			owed = true
		case <-b.wake:
			if b.drainer.running.Load() {
				token(b.drainer.wake)
				if lookBy.IsZero() {
					lookBy = time.Now().Add(wakeLook)
				}
			} else {
				owed = true
			}
		case result := <-b.looker.done:
			more, ringIn, err := b.answer(ctx, result)
			if err != nil && b.outage.wait(ctx, err) != nil {
				continue
			}
			owed, again = owed || more || err != nil, min(again, ringIn)
		}
		if !lookBy.IsZero() {
			if left := time.Until(lookBy); left > 0 {
				again = min(again, left)
			} else {
				owed, lookBy = true, time.Time{}
			}
		}
		if owed {
			began, wait := b.looker.begin(ctx)
			if owed = !began; owed {
				again = min(again, wait)
			}
		}
		timer.Reset(again)
	}
}

// answer makes known what a look found, and rings where no drain runs. It returns when to look again because it may not
// ring yet.
func (b *doorbell) answer(ctx context.Context, result looked) (more bool, again time.Duration, err error) {
	more = b.looker.end(result)
	if result.err != nil {
		return false, b.poll, result.err
	}
	b.outage.over()
	if len(result.found) == 0 {
		return false, b.poll, nil
	}
	b.known.add(result.found)
	if b.drainer.running.Load() {
		token(b.drainer.wake)
		return more, b.poll, nil
	}
	if left := ringPause - time.Since(b.rungAt); left > 0 { // a drain was just rung for, here or where its job was taken
		return more, left, nil
	}
	return more, b.poll, b.ring(ctx)
}

func (b *doorbell) ring(ctx context.Context) error {
	b.rungAt = time.Now()
	if _, err := b.client.Insert(ctx, drainArgs{}, drainOptions()); err != nil {
		return fmt.Errorf("ring for a drain: %w", err)
	}
	return nil
}

// drainOptions: a drain is never tried again, for the next ring is a new one.
func drainOptions() *river.InsertOpts { return &river.InsertOpts{Queue: drainQueue, MaxAttempts: 1} }
