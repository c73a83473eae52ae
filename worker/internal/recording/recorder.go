// Package recording writes results into the outbox in batches. No batch waits long for a lock, and a result that
// the database refuses, or whose row somebody holds, never delays others.
//
// It owns the goroutine that records, its batches and the list of held results. The statements are in package postgres.
package recording

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recurring"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// Recorder writes results in batches: while one batch is written, the next one gathers. The first result after a pause is
// written at once; in a stream, a batch waits until it is large enough to be worth a statement, schedule.BatchPace at
// most.
//
// A result that cannot be written now never delays others: it is held, and tried again separately (held.go).
type Recorder struct {
	// Changed, when not nil, is called for each recorded change of a lane's health. Set it before Run.
	Changed func(postgres.EndpointChange)

	to     *postgres.Recorder
	in     chan postgres.Result // bounded: when the database is slower than the receivers, requests wait here
	outage *outage.Part
	logger *slog.Logger
	last   time.Time // when the last batch was begun
	stream bool      // it had many results

	unrecorded oldest // answer, in the batch that is being written and in those that are held

	held         []*heldResult // in the order in which they came
	written      int           // attempts recorded since the start: it grows while the database accepts something
	carefulUntil time.Time     // until then no batch waits for a lock, because one was met a moment ago
	toldHeld     time.Time     // when it was last logged that results are held
	unwritten    atomic.Int64  // results that were dropped
	dropped      instruments.Counter
	faults       *recurring.Log
}

// New returns a recorder with room for inFlight results that wait to be written. What it drops is counted unless m is nil.
func New(to *postgres.Recorder, part *outage.Part, logger *slog.Logger, room int, m *instruments.Maker) *Recorder {
	return &Recorder{to: to, in: make(chan postgres.Result, room), outage: part, logger: logger, dropped: NewDropped(m, "answer"), faults: recurring.New(logger)}
}

// In takes results. While it is full, senders wait; so a slow database slows the claims.
func (r *Recorder) In() chan<- postgres.Result { return r.in }

// Close says that no further result comes: Run writes what it has, and returns.
func (r *Recorder) Close() { close(r.in) }

// Unrecorded is when the oldest unrecorded result came; zero when all are recorded.
func (r *Recorder) Unrecorded() time.Time { return r.unrecorded.since() }

// Unwritten is how many results a stop dropped.
func (r *Recorder) Unwritten() int64 { return r.unwritten.Load() }

// BatchMax bounds a batch, and with it one statement's memory.
const BatchMax = 512

// Run records until [Recorder.Close] was called and everything in it is written, or until ctx ends. Then unwritten results are lost:
// their messages are delivered again when their leases end.
func (r *Recorder) Run(ctx context.Context) {
	defer r.faults.Close()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		in := r.in
		if r.everythingIsRefused() && ctx.Err() == nil {
			in = nil // wait for the database, and do not take further results
		}
		again.Reset(r.heldPause(time.Now()))
		r.unrecorded.set(r.oldestHeld())
		select {
		case first, ok := <-in:
			if !ok {
				r.giveUpHeld(ctx)
				return
			}
			if r.unrecorded.since().IsZero() {
				r.unrecorded.set(time.Now())
			}
			if unwritten, err := r.write(ctx, r.gather(first)); err != nil {
				r.giveUp(ctx, unwritten, err)
			}
		case <-again.C:
			r.tryHeld(ctx)
		case <-doneIf(in == nil, ctx):
		}
	}
}

// doneIf is the end of ctx if it matters, and otherwise never.
func doneIf(matters bool, ctx context.Context) <-chan struct{} {
	if !matters {
		return nil
	}
	return ctx.Done()
}

// giveUp counts what a stop leaves unwritten, which the worker logs in one line. Outside of a stop, it logs at once.
func (r *Recorder) giveUp(ctx context.Context, messages int, err error) {
	if ctx.Err() != nil {
		r.unwritten.Add(int64(messages))
		return
	}
	r.tellLost(ctx, messages, err)
}

func (r *Recorder) tellLost(ctx context.Context, messages int, err error) {
	r.dropped.Add(messages)
	r.logger.ErrorContext(ctx, "answers not recorded; their messages will be delivered again", "messages", messages, "error", err)
}

func (r *Recorder) gather(first postgres.Result) []postgres.Result {
	batch := make([]postgres.Result, 1, 64)
	batch[0] = first
	var paced <-chan time.Time
	if left := schedule.BatchPace - time.Since(r.last); r.stream && left > 0 {
		paced = time.After(left)
	}
	for len(batch) < BatchMax {
		select {
		case next, ok := <-r.in:
			if !ok {
				return batch
			}
			batch = append(batch, next)
			continue
		default:
		}
		if paced == nil || len(batch) >= schedule.BatchWorth {
			break
		}
		select {
		case next, ok := <-r.in:
			if !ok {
				return batch
			}
			batch = append(batch, next)
		case <-paced:
			paced = nil
		}
	}
	r.last, r.stream = time.Now(), len(batch) >= schedule.BatchOfStream
	return batch
}

// write records a batch as a whole. After a lock that somebody holds, or a result that the database refuses, it continues in
// parts. An error says how many results were not written because ctx ended.
func (r *Recorder) write(ctx context.Context, batch []postgres.Result) (unwritten int, err error) {
	if time.Now().After(r.carefulUntil) {
		err := r.persist(ctx, func() error {
			changes, err := r.to.Record(ctx, batch)
			if err == nil {
				r.written += len(batch)
				r.logChanges(ctx, changes)
			}
			return err
		}, postgres.IsLocked)
		switch {
		case err == nil:
			return 0, nil
		case ctx.Err() != nil:
			return len(batch), err
		case postgres.IsLocked(err):
			r.carefulUntil = time.Now().Add(carefulFor)
		}
	}
	return r.writeParts(ctx, r.newlyHeld(batch))
}

// carefulFor is how long after a lock was met batches use the statement that waits for none. That statement takes more of the
// database's time; a wait takes 200 ms.
const carefulFor = 5 * time.Second

// persist repeats a try while the database is away. It returns what further tries would not change: a refusal, a lock, or
// the last error when ctx ends.
func (r *Recorder) persist(ctx context.Context, try func() error, locked func(error) bool) error {
	for {
		err := try()
		switch {
		case err == nil || postgres.IsRefusal(err) || locked(err):
			r.outage.Worked() // the database answers
			return err
		case ctx.Err() != nil:
			return err
		case r.outage.Wait(ctx, err) != nil:
			return err
		}
	}
}

// logChanges logs what a batch changed of the endpoints' health. All URLs of a tenant together have a line a minute.
func (r *Recorder) logChanges(ctx context.Context, changes []postgres.EndpointChange) {
	for _, c := range changes {
		if r.Changed != nil {
			r.Changed(c)
		}
		level, attrs := slog.LevelWarn, []slog.Attr{slog.String("endpoint", c.Endpoint), slog.String("reason", c.Reason)}
		if c.OpenUntil != nil {
			attrs = append(attrs, slog.Time("open_until", *c.OpenUntil))
		}
		if c.What == postgres.EndpointClosed {
			level = slog.LevelInfo
		}
		if lane.IsURL(c.Endpoint) { // there may be as many of them as messages
			r.faults.Tell(ctx, level, lane.Owner(c.Endpoint), "endpoint: "+c.What, attrs...)
			continue
		}
		r.logger.LogAttrs(ctx, level, "endpoint: "+c.What, attrs...)
	}
}
