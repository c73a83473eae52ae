package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// trial is one run of the program: a stage, faults, and what was observed.
type trial struct {
	*stage
	options  options
	out      io.Writer
	begun    time.Time
	timeline *timeline
	watch    *watch
	poison   set
	backlog  atomic.Int64 // due at the last sample

	mu         sync.Mutex // guards what follows, and the output
	violations []violation
	byRule     map[string]int
	faults     []string // faults of the chaos program itself
	found      result   // of the checker
	settled    time.Duration
}

// set is a set of message ids that goroutines share.
type set struct {
	mu sync.Mutex
	of map[string]bool
}

func (s *set) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]bool{}
	}
	s.of[id] = true
}

func (s *set) all() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]bool{}
	for id := range s.of {
		all[id] = true
	}
	return all
}

func newTrial(o options, out io.Writer) *trial {
	t := &trial{options: o, out: out, begun: time.Now(), timeline: &timeline{workers: o.workers}, byRule: map[string]int{}}
	t.stage = &stage{options: o, say: t.say, broken: t.violated, poison: &t.poison}
	return t
}

// say prints a line.
func (t *trial) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintf(t.out, "%6.1fs  %s\n", time.Since(t.begun).Seconds(), fmt.Sprintf(format, args...))
}

// detail prints a line only with -v.
func (t *trial) detail(format string, args ...any) {
	if t.options.verbose {
		t.say(format, args...)
	}
}

// fail records that the chaos program itself failed, so that the trial does not pass.
func (t *trial) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.mu.Lock()
	t.faults = append(t.faults, text)
	t.mu.Unlock()
	t.say("FAULT: %s", text)
}

// violated records a violation. It prints the first ones of each rule, with the faults around them.
func (t *trial) violated(v violation) {
	const toldMax = 5
	t.mu.Lock()
	t.violations = append(t.violations, v)
	t.byRule[v.rule]++
	n := t.byRule[v.rule]
	t.mu.Unlock()
	switch {
	case n <= toldMax:
		t.say("VIOLATION (%s): %s%s", v.rule, v.what, t.evidence(v))
	case n == toldMax+1:
		t.say("VIOLATION (%s): and more, counted below", v.rule)
	}
}

// evidence returns what happened to the message, and the faults around, as text.
func (t *trial) evidence(v violation) (text string) {
	if v.message != "" {
		text += "\n    what happened to the message:" + t.receiver.history(v.message) + t.history(v.message)
	}
	if !v.from.IsZero() {
		text += "\n    the faults:\n" + t.timeline.around(v.from, v.to)
	}
	return text
}

// run makes the whole trial.
func (t *trial) run(ctx context.Context) error {
	if err := t.build(ctx); err != nil {
		return err
	}
	if err := t.startWriters(ctx); err != nil {
		return err
	}
	t.startWatch()
	watchCtx, stopWatch := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	group.Go(func() { t.watchDue(watchCtx) })
	stopProgress := every(10*time.Second, t.progress)

	faulty, cancel := context.WithTimeout(ctx, t.options.length)
	t.makeFaults(faulty)
	cancel()

	err := t.settle(ctx)
	stopProgress()
	stopWatch()
	group.Wait()
	return errors.Join(err, t.compare(ctx.Err() != nil))
}

func (t *trial) startWatch() {
	t.watch = newWatch(t.options.workers, t.receiver.healthyOrigins())
	t.watch.faults = func(from, to time.Time) []fault { return t.timeline.overlapping(from, to, 0) }
	t.watch.tried, t.watch.triedAt = t.receiver.lastRequest, t.receiver.lastAtOrigin
}

func (t *trial) progress() {
	_, faults := t.timeline.counts()
	t.say("%d runs committed, %d requests, %d due, %d faults", t.written().Committed, t.receiver.count(), t.backlog.Load(), faults)
	for _, f := range t.timeline.overlapping(time.Now(), time.Now(), 0) {
		t.detail("    %s", f)
	}
}

// settleMax bounds the time from the last fault until everything is settled. It covers the waits between attempts. It also covers
// a step of a killed writer: once River has a leader again, its rescuer finds it within rescueAfter and half a minute.
const settleMax = 2 * time.Minute

// settle stops the writers and waits until nothing is left to do. The riverstep writer works on its runs until then.
func (t *trial) settle(ctx context.Context) error {
	t.say("no more faults: everything must be settled within %v", settleMax)
	begun := time.Now()
	for _, writer := range t.writers {
		writer.current().signal(drainSignal)
	}
	for time.Since(begun) < settleMax && ctx.Err() == nil {
		left, err := t.left(ctx)
		if err == nil && left == (remaining{}) {
			t.settled = time.Since(begun)
			t.stopAll()
			return nil
		}
		sleep(ctx, 200*time.Millisecond)
	}
	if ctx.Err() != nil {
		t.say("what is still due:%s", t.whyDue(context.WithoutCancel(ctx)))
		t.stopAll()
		return nil // after an interrupt, unfinished work is not a violation
	}
	left, err := t.left(ctx)
	t.violated(violation{rule: "unsettled", what: fmt.Sprintf("%d messages are due and %d riverstep runs active, %v after the last fault (%v)%s",
		left.due, left.runs, settleMax, err, t.whyDue(ctx)), from: begun, to: time.Now()})
	t.stopAll()
	return nil
}

// selectWhyDue returns for each endpoint what its due messages wait for.
const selectWhyDue = `WITH free AS MATERIALIZED (SELECT message_id FROM outbox.due FOR UPDATE SKIP LOCKED)
SELECT format('%s: %s due, the first at %s, %s under a lease, %s locked by a session; endpoint: %s', d.endpoint, count(*), min(d.due_at),
    count(*) FILTER (WHERE d.locked_until > now()), count(*) FILTER (WHERE d.message_id NOT IN (SELECT message_id FROM free)),
    coalesce((SELECT row_to_json(e)::text FROM outbox.endpoint e WHERE e.endpoint = d.endpoint), 'no row'))
FROM outbox.due d GROUP BY d.endpoint ORDER BY d.endpoint`

// whyDue returns what the messages that are still due wait for.
func (t *trial) whyDue(ctx context.Context) (text string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	rows, err := t.admin.Query(ctx, selectWhyDue)
	if err != nil {
		return "; what they wait for could not be read: " + err.Error()
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "; what they wait for could not be read: " + err.Error()
	}
	for _, line := range lines {
		text += "\n    " + line
	}
	return text
}

// remaining is the work that is left.
type remaining struct{ due, runs int }

func (t *trial) left(ctx context.Context) (r remaining, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = t.admin.QueryRow(ctx, `SELECT (SELECT count(*) FROM outbox.due d JOIN outbox.message m ON m.id = d.message_id JOIN chaos.ack a ON a.run_id = m.run_id),
       (SELECT count(*) FROM outbox.riverstep_run WHERE ended_at IS NULL)`).Scan(&r.due, &r.runs)
	return r, err
}

// stopAll ends writers and workers as a deployment would.
func (t *trial) stopAll() {
	var group sync.WaitGroup
	for _, p := range t.writers {
		group.Go(func() { _, _ = p.current().stop(2 * writeMax) }) // a writer has committed no part of the work that it leaves
	}
	for _, p := range t.workers {
		group.Go(func() {
			if c := p.current(); !c.ended() {
				took, err := c.stop(stopMax)
				t.stopped(p.name, took, err)
			}
		})
	}
	group.Wait()
}

// compare reads all evidence, and lets the checker check it.
func (t *trial) compare(cutOff bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	t.receiver.awaitIdle(ctx)
	acks, messages, err := t.readLedger(ctx)
	if err != nil {
		return err
	}
	t.found = check(evidence{
		committed: acks, messages: messages, requests: t.receiver.record(), poison: t.poison.all(), cutOff: cutOff,
		faults: func(from, to time.Time) []fault { return t.timeline.overlapping(from, to, linger) },
	})
	for _, v := range t.found.violations {
		t.violated(v)
	}
	return nil
}

// linger is how long after its end a fault may still prevent the record of an answer: until the worker has connected again.
// What it prevented while it lasted overlaps it anyway.
const linger = 1 * time.Second

// report prints the counts and the verdict.
func (t *trial) report(err error, interrupted bool) (passed bool) {
	kinds, total := t.timeline.counts()
	w, f := t.written(), t.found
	requests := 0
	if t.receiver != nil {
		requests = t.receiver.count()
	}
	passed = (err == nil || interrupted) && len(t.violations) == 0 && len(t.faults) == 0
	verdict := "PASS"
	switch {
	case !passed:
		verdict = "FAIL"
	case interrupted:
		verdict = "INTERRUPTED, without a violation so far"
	}
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t.out, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	_, _ = fmt.Fprintf(t.out, "\n")
	line("seed", "%d", t.options.seed)
	line("duration", "%v, of which settling %v", time.Since(t.begun).Round(time.Second), t.settled.Round(100*time.Millisecond))
	line("faults", "%d: %s", total, kinds)
	line("writers", "%d committed, %d rolled back on purpose, %d failed, %d with COMMIT's answer lost", w.Committed, w.RolledBack, w.Failed, w.Unknown)
	line("messages", "%d delivered, %d dead for the receiver's reasons", f.delivered, f.dead)
	line("requests", "%d; %d repeated what was accepted before, %d of them with a fault between", requests, f.repeats, f.excused)
	if t.watch != nil {
		line("longest stall", "%v of a message at a healthy origin (%s; bound %v), %v of an origin (bound %v); %v beside a fault that touched others only",
			t.watch.longest.Round(time.Millisecond), t.watch.longestWhat, messageMax, t.watch.longestOrigin.Round(time.Millisecond), originMax, t.watch.longestBeside.Round(time.Millisecond))
		line("watched", "%d times what was due, %d times in vain", t.watch.samples, t.watch.missed)
	}
	line("stops", "%d by SIGTERM, the longest %v", t.stage.stops, t.stage.longestStop.Round(time.Millisecond))
	for rule, n := range t.byRule {
		line("VIOLATED", "%s, %d times", rule, n)
	}
	for _, text := range t.faults {
		line("FAULT", "%s", text)
	}
	if err != nil {
		line("FAULT", "%v", err)
	}
	_, _ = fmt.Fprintf(t.out, "  %s\n", verdict)
	return passed
}
