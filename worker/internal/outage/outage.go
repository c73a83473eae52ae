// Package outage follows a database that goes away. It decides how long each part of the worker waits before it tries
// again, and logs one line when the outage begins, one now and then, and one when it is over.
package outage

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Outage logs when the first part of the worker cannot use the database, and when the last one can again. One
// part may fail alone (a full disk), so each is a [Part] of its own.
type Outage struct {
	logger   *slog.Logger
	pauseMax time.Duration
	faults   Faults

	mu       sync.Mutex
	since    time.Time // zero while every part can use the database
	quiet    time.Time // when the last part worked again; zero while one fails
	lastSaid time.Time
	advised  map[string]bool // the advice logged in this outage
	failing  map[*Part]bool
}

// Faults explain an error. Either may be nil.
type Faults struct {
	Failed func(error) (again bool) // called for each; again: the next try may work at once
	Advice func(error) string       // what an operator can do, for the log, or nothing; one of a few texts
}

// Part is one part of the worker that uses the database. Its methods may be called from any goroutine.
type Part struct {
	outage *Outage
	name   string
	pause  time.Duration // before the next try; zero while it works
	again  bool          // it already tried again at once since it last worked
}

// A part that fails waits pauseMin, and twice as long each time, up to PauseMax, or up to the bound given to New if that is
// shorter.
const (
	pauseMin  = 100 * time.Millisecond
	PauseMax  = 5 * time.Second
	pauseGrow = 2
	sayAgain  = 30 * time.Second
	settles   = 2 * time.Second // without a fault, before an outage is logged as over: faults come and go while it lasts
)

// New returns an outage that has not begun. No part waits longer than longest before it tries again.
func New(logger *slog.Logger, longest time.Duration, faults Faults) *Outage {
	return &Outage{logger: logger, pauseMax: min(max(longest, pauseMin), PauseMax), faults: faults, failing: map[*Part]bool{}, advised: map[string]bool{}}
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

// Failed is called after a fault. It returns how long to wait before the next try: nothing after the first fault since a
// success, if another try may work at once. That first fault is no outage yet.
func (p *Part) Failed(ctx context.Context, err error) time.Duration {
	o := p.outage
	again := ctx.Err() == nil && o.faults.Failed != nil && o.faults.Failed(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if again && !p.again && p.pause == 0 {
		p.again = true
		o.logger.DebugContext(ctx, "a session is of no use any more; trying again with another", "part", p.name, "error", err)
		return 0
	}
	p.pause = min(max(p.pause*pauseGrow, pauseMin), o.pauseMax)
	if ctx.Err() != nil { // our own end, not the database's
		return p.pause
	}
	now := time.Now()
	o.failing[p], o.quiet = true, time.Time{}
	if o.since.IsZero() {
		o.since = now
	}
	o.say(ctx, p.name, err, now)
	return p.pause
}

// say logs the outage: now and then, and at once when there is new advice. The first error of an outage may
// be that of a lost session, and not the one that keeps new sessions from working.
func (o *Outage) say(ctx context.Context, part string, err error, now time.Time) {
	advice := ""
	if o.faults.Advice != nil {
		advice = o.faults.Advice(err)
	}
	if now.Sub(o.lastSaid) <= sayAgain && (advice == "" || o.advised[advice]) {
		return
	}
	o.lastSaid = now
	attrs := []any{"part", part, "error", err, "away_for", now.Sub(o.since).Round(time.Millisecond)}
	if advice != "" {
		o.advised[advice] = true
		attrs = append(attrs, "advice", advice)
	}
	o.logger.WarnContext(ctx, "the database cannot be used; trying again until it can", attrs...)
}

// Lasts reports whether an outage was logged as begun, and not yet as over.
func (o *Outage) Lasts() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.since.IsZero()
}

// Worked is called after every success. An outage is over once every part has worked for a while.
func (p *Part) Worked() {
	o := p.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	p.again, p.pause = false, 0
	if delete(o.failing, p); len(o.failing) > 0 || o.since.IsZero() {
		return
	}
	now := time.Now()
	if o.quiet.IsZero() {
		o.quiet = now
	}
	if now.Sub(o.quiet) < settles {
		return
	}
	o.logger.Info("the database can be used again", "away_for", o.quiet.Sub(o.since).Round(time.Millisecond))
	o.since, o.quiet, o.lastSaid = time.Time{}, time.Time{}, time.Time{}
	clear(o.advised)
}
