package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// outage tells the story of a database that goes away: one line when it goes, one now and then while it is away, one
// when it is back. All parts of a worker share one.
type outage struct {
	logger *slog.Logger

	mu       sync.Mutex
	since    time.Time // zero while the database answers
	lastSaid time.Time
	pause    time.Duration
}

const (
	pauseMin  = 100 * time.Millisecond
	pauseMax  = 5 * time.Second
	sayAgain  = 30 * time.Second
	pauseGrow = 2
)

// wait is called after a fault; it returns when another try is due, or ctx's error when that ends first.
func (o *outage) wait(ctx context.Context, err error) error {
	timer := time.NewTimer(o.began(ctx, err))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *outage) began(ctx context.Context, err error) (pause time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.since.IsZero() {
		o.since, o.pause = now, pauseMin
	}
	if now.Sub(o.lastSaid) > sayAgain {
		o.lastSaid = now
		o.logger.WarnContext(ctx, "the database cannot be used; trying again until it can",
			"error", err, "away_for", now.Sub(o.since).Round(time.Millisecond))
	}
	pause = o.pause
	o.pause = min(o.pause*pauseGrow, pauseMax)
	return pause
}

// over is called after every success.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return
	}
	o.logger.Info("the database can be used again", "away_for", time.Since(o.since).Round(time.Millisecond))
	o.since, o.lastSaid = time.Time{}, time.Time{}
}
