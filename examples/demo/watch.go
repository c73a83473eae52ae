package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/latency"
)

// When the worker is killed, and how the run is watched.
const (
	killAtShare  = 0.4 // of the runs
	downFor      = time.Second
	heldMin      = 8                      // requests without an answer, before the kill
	heldWaitMax  = 500 * time.Millisecond // less than the delivery timeout
	lookEvery    = 200 * time.Millisecond
	rateOver     = 2 * time.Second
	patienceOver = 30 * time.Second // without any progress: then the verdict says what is missing
)

// course is what happened before the end.
type course struct {
	begun     time.Time
	killedAt  time.Time // zero: not yet
	held      int       // accepted by the receiver, with no answer, when the worker was killed
	restarted bool
	looks     int
	torn      []string // looks that saw another number of messages than of ended runs
	changed   time.Time
	last      look
	rates     []look
}

// look is one snapshot.
type look struct {
	at        time.Time
	ended     int // runs
	messages  int
	waiting   int // messages still to be delivered
	delivered int // messages that the receiver accepted
}

// look takes all numbers of the database from one snapshot: an outcome and its message are committed together, so no
// snapshot may ever hold one without the other.
func (d *demo) look(ctx context.Context) (look, error) {
	l := look{at: time.Now(), delivered: d.receiver.Delivered()}
	err := d.pool.QueryRow(ctx, d.in(`SELECT (SELECT count(*) FROM demo.run WHERE status IS NOT NULL),
(SELECT count(*) FROM outbox.message), (SELECT count(*) FROM outbox.due)`)).Scan(&l.ended, &l.messages, &l.waiting)
	if err != nil {
		return l, fmt.Errorf("look at the run: %w", err)
	}
	return l, nil
}

// watch returns when the service has ended every run and nothing is left to be delivered.
func (d *demo) watch(ctx context.Context) error {
	c := &d.course
	c.begun, c.changed = time.Now(), time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		l, err := d.look(ctx)
		if err != nil {
			return err
		}
		c.take(l)
		d.tell(l)
		if err := d.checkChildren(); err != nil {
			return err
		}
		if err := d.interfere(ctx, l); err != nil {
			return err
		}
		if d.service.ended() && l.waiting == 0 && (!d.options.kill || c.restarted) {
			return nil
		}
		if time.Since(c.changed) > patienceOver {
			d.story.part("", "nothing has changed for %s: giving up", latency.Short(patienceOver))
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take adds a look to the course.
func (c *course) take(l look) {
	c.looks++
	if l.messages != l.ended {
		c.torn = append(c.torn, fmt.Sprintf("%d runs had ended, and there were %d messages", l.ended, l.messages))
	}
	before := c.last
	if before.ended != l.ended || before.waiting != l.waiting || before.delivered != l.delivered {
		c.changed = l.at
	}
	c.last = l
	c.rates = append(c.rates, l)
	for l.at.Sub(c.rates[0].at) > rateOver {
		c.rates = c.rates[1:]
	}
}

// perSecond is how many messages were delivered per second of late.
func (c *course) perSecond() float64 {
	first := c.rates[0]
	if took := c.last.at.Sub(first.at).Seconds(); took > 0 {
		return float64(c.last.delivered-first.delivered) / took
	}
	return 0
}

func (d *demo) tell(l look) {
	d.story.progress("  %4.0f s   %d of %d runs ended, %d messages, %d delivered, %d waiting, %.0f/s",
		l.at.Sub(d.course.begun).Seconds(), l.ended, d.runs, l.messages, l.delivered, l.waiting, d.course.perSecond())
}

func (d *demo) checkChildren() error {
	if d.service.ended() {
		if err := d.service.failure(); err != nil {
			return err
		}
	}
	killed := !d.course.killedAt.IsZero() && !d.course.restarted
	if !killed && d.worker.ended() {
		return errors.Join(d.worker.failure(), errors.New("the worker ended although nobody asked it to"))
	}
	return nil
}

// interfere kills the worker when the time has come, and starts it again.
func (d *demo) interfere(ctx context.Context, l look) error {
	c := &d.course
	switch {
	case !d.options.kill || c.restarted:
		return nil
	case c.killedAt.IsZero() && float64(l.ended) >= killAtShare*float64(d.runs):
		return d.killWorker(ctx)
	case !c.killedAt.IsZero() && time.Since(c.killedAt) >= downFor:
		if err := d.runWorker(); err != nil {
			return err
		}
		c.restarted = true
		d.story.part("worker", "started again after %s, pid %d; what the dead one had claimed is due again within %s",
			latency.Short(downFor), d.worker.pid(), latency.Short(lease))
	}
	return nil
}

// killWorker kills it at the worst moment: the receiver has accepted messages, and the worker does not know.
func (d *demo) killWorker(ctx context.Context) error {
	release := d.receiver.Hold()
	defer release()
	deadline := time.After(heldWaitMax)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting && d.receiver.Held() < heldMin; {
		select {
		case <-tick.C:
		case <-deadline:
			waiting = false // there is little to deliver: kill it anyway
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.course.killedAt = time.Now()
	if err := d.worker.kill(); err != nil {
		return err
	}
	d.course.held = d.receiver.Held()
	d.story.part("worker", "killed with SIGKILL: %d messages were accepted by the receiver without an answer yet,", d.course.held)
	d.story.part("", "so no worker knows that they arrived. They, and those whose answers it had not recorded yet,")
	d.story.part("", "must come again, under the same webhook-id")
	return nil
}
