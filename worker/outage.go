package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// outage tells the story of a database that goes away: one line when the first part of the worker finds that it cannot
// use it, one now and then, and one when the last part can use it again. One part may fail alone (a full disk), so each
// has a [door] of its own to it.
type outage struct {
	logger *slog.Logger

	mu       sync.Mutex
	since    time.Time // zero while every part can use the database
	lastSaid time.Time
	failing  map[*door]bool
}

// door is what one part of the worker, in one goroutine, tries the database through.
type door struct {
	outage *outage
	part   string
	pause  time.Duration // before the next try; zero while it is open
}

const (
	pauseMin  = 100 * time.Millisecond
	pauseMax  = 5 * time.Second
	pauseGrow = 2
	sayAgain  = 30 * time.Second
)

func newOutage(logger *slog.Logger) *outage {
	return &outage{logger: logger, failing: map[*door]bool{}}
}

func (o *outage) door(part string) *door { return &door{outage: o, part: part} }

// wait is called after a fault; it returns when another try is due, or ctx's error when that ends first.
func (d *door) wait(ctx context.Context, err error) error {
	d.outage.failed(ctx, d, err)
	d.pause = min(max(d.pause*pauseGrow, pauseMin), pauseMax)
	timer := time.NewTimer(d.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// over is called after every success.
func (d *door) over() {
	if d.pause != 0 {
		d.pause = 0
		d.outage.worked(d)
	}
}

func (o *outage) failed(ctx context.Context, d *door, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.failing[d] = true
	if o.since.IsZero() {
		o.since = now
	}
	if now.Sub(o.lastSaid) > sayAgain {
		o.lastSaid = now
		o.logger.WarnContext(ctx, "the database cannot be used; trying again until it can",
			"part", d.part, "error", err, "away_for", now.Sub(o.since).Round(time.Millisecond))
	}
}

func (o *outage) worked(d *door) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.failing, d)
	if len(o.failing) > 0 {
		return
	}
	o.logger.Info("the database can be used again", "away_for", time.Since(o.since).Round(time.Millisecond))
	o.since, o.lastSaid = time.Time{}, time.Time{}
}
