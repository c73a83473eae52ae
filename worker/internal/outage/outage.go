// Package outage keeps the story of a database that goes away: for each part of the worker how long to wait before it
// tries again, and for the log one line when it begins, one now and then, and one when it is over.
package outage

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Outage says in the log when the first part of the worker cannot use the database, and when the last one can again. One
// part may fail alone (a full disk), so each is a [Part] of its own.
type Outage struct {
	logger   *slog.Logger
	pauseMax time.Duration

	mu       sync.Mutex
	since    time.Time // zero while every part can use the database
	lastSaid time.Time
	failing  map[*Part]bool
}

// Part is one part of the worker that uses the database. Its methods may be called from any goroutine.
type Part struct {
	outage *Outage
	name   string
	pause  time.Duration // before the next try; zero while it works
}

// A part that fails waits pauseMin, and twice as long each time, up to PauseMax, or the bound that New was given if that is
// shorter.
const (
	pauseMin  = 100 * time.Millisecond
	PauseMax  = 5 * time.Second
	pauseGrow = 2
	sayAgain  = 30 * time.Second
)

// New returns an outage that has not begun. No part waits longer than longest before it tries again.
func New(logger *slog.Logger, longest time.Duration) *Outage {
	return &Outage{logger: logger, pauseMax: min(max(longest, pauseMin), PauseMax), failing: map[*Part]bool{}}
}

// Part returns a part by the name that the log gives it.
func (o *Outage) Part(name string) *Part { return &Part{outage: o, name: name} }

// Wait is called after a fault; it returns when another try is due, or ctx's error when that ends first.
func (p *Part) Wait(ctx context.Context, err error) error {
	timer := time.NewTimer(p.Failed(ctx, err))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Failed is called after a fault. It returns how long to wait before the next try.
func (p *Part) Failed(ctx context.Context, err error) time.Duration {
	o := p.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	p.pause = min(max(p.pause*pauseGrow, pauseMin), o.pauseMax)
	if ctx.Err() != nil { // our own end, not the database's
		return p.pause
	}
	now := time.Now()
	o.failing[p] = true
	if o.since.IsZero() {
		o.since = now
	}
	if now.Sub(o.lastSaid) > sayAgain {
		o.lastSaid = now
		o.logger.WarnContext(ctx, "the database cannot be used; trying again until it can",
			"part", p.name, "error", err, "away_for", now.Sub(o.since).Round(time.Millisecond))
	}
	return p.pause
}

// Worked is called after every success.
func (p *Part) Worked() {
	o := p.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.pause == 0 {
		return
	}
	p.pause = 0
	if delete(o.failing, p); len(o.failing) > 0 || o.since.IsZero() {
		return
	}
	o.logger.Info("the database can be used again", "away_for", time.Since(o.since).Round(time.Millisecond))
	o.since, o.lastSaid = time.Time{}, time.Time{}
}
