package worker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recording"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recurring"
)

// eventEvery is the least time between two messages of one endpoint and kind.
const eventEvery = 5 * time.Minute

const (
	tellEvery     = time.Second // the least time between two searches for events to write
	tellTryAgain  = time.Minute // where events cannot be written
	tellNotesMost = 1024        // notes that no transaction of the worker's made
)

// teller reports events: to the embedding program by its callbacks, and to an operator by messages of the outbox.
//
// The worker's statements note what they change themselves (postgres.Telling). Two events have no transaction and are
// noted here: a worker is missing, and a row is left out.
type teller struct {
	to        *postgres.Teller // nil without a URL for events
	every     time.Duration
	onEvent   *callbacks[Event]
	onAttempt *callbacks[Attempt]
	wakeDrain func() // a message of an event is due
	outage    *outage.Part
	faults    *recurring.Log
	written   instruments.Counters // by kind
	dropped   instruments.Counter

	on    atomic.Bool // events can be written
	mu    sync.Mutex
	notes []event.Note  // to be written; tellNotesMost at most
	wake  chan struct{} // something was noted
}

func newTeller(w *Worker) *teller {
	c := w.config
	t := &teller{
		every: max(c.PollInterval, tellEvery), wakeDrain: func() { w.scheduler.Woken(time.Now()) }, outage: w.outage.Part("events"),
		faults: recurring.New(c.Logger), dropped: recording.NewDropped(c.instruments, "event"), wake: make(chan struct{}, 1),
		written: c.instruments.Counter("outbox.events", "{event}", "Events that this process wrote as messages to OUTBOX_EVENTS_URL.").By("kind", kindTexts()...),
	}
	t.onEvent = newCallbacks("OnEvent", c.OnEvent, recording.NewDropped(c.instruments, "on_event"), t.faults)
	t.onAttempt = newCallbacks("OnAttempt", c.OnAttempt, recording.NewDropped(c.instruments, "on_attempt"), t.faults)
	if c.EventsURL != "" {
		t.to = postgres.NewTeller(w.db, postgres.TellerConfig{Schema: c.Schema, Every: c.eventEvery})
	}
	return t
}

func kindTexts() (all []string) {
	for _, kind := range event.Kinds {
		all = append(all, string(kind))
	}
	return all
}

// telling says how much the worker's statements report now.
func (t *teller) telling() postgres.Telling {
	switch {
	case t.on.Load():
		return postgres.Write
	case t.onEvent != nil:
		return postgres.Answer
	}
	return postgres.Quiet
}

// untold reports that something is recorded without its event.
func (t *teller) untold(err error) {
	t.dropped.Add(1)
	t.faults.Tell(context.Background(), slog.LevelError, "", "the database refuses an event; what the event is about is recorded", slog.Any("error", err))
}

// tell reports an event to the embedding program, and wakes the loop that writes events. Failures of event messages raise no events.
func (t *teller) tell(e Event) {
	if event.IsLane(e.Endpoint) {
		return
	}
	t.onEvent.tell(e)
	t.look()
}

func (t *teller) look() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// died, changed and aside report what the worker's statements did.
func (t *teller) died(x postgres.Result) { t.tell(deathOf(x)) }

func (t *teller) changed(x postgres.EndpointChange) {
	if e, ok := changeOf(x); ok {
		t.tell(e)
	}
}

func (t *teller) aside(all []postgres.Aside) {
	for _, a := range all {
		for _, e := range asideOf(a) {
			t.tell(e)
		}
		if a.What == postgres.AsideLeftOut && (a.Endpoint != "" || len(a.IDs) > 0) {
			kind, name := event.EndpointSetAside, a.Endpoint
			if name == "" {
				kind = event.MessageSetAside
			}
			t.note(event.Note{Kind: kind, Lane: name, Reason: "left out: " + a.Reason})
		}
	}
}

// missing reports workers that died.
func (t *teller) missing(names []string) {
	for _, name := range names {
		t.onEvent.tell(Event{Kind: EventWorkerMissing, At: time.Now(), Worker: name, Reason: "its lock is free", Count: 1})
		t.note(event.Note{Kind: event.WorkerMissing, Lane: name, Reason: "its lock is free"})
	}
}

// note queues a note of an event that no transaction of the worker's caused.
func (t *teller) note(n event.Note) {
	if !t.on.Load() || event.IsLane(n.Lane) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.notes) >= tellNotesMost {
		t.dropped.Add(1)
		return
	}
	t.notes = append(t.notes, n)
	t.look()
}

// prepare checks whether events can be written. It runs before the first claim, so that no event is missed.
func (t *teller) prepare(ctx context.Context) error {
	if t.to == nil {
		return nil
	}
	why, err := t.to.Usable(ctx)
	switch {
	case err != nil:
		t.on.Store(false)
		return err
	case why != "":
		t.on.Store(false)
		t.faults.Tell(ctx, slog.LevelWarn, "", "events cannot be written; nothing is sent to OUTBOX_EVENTS_URL", slog.String("why", why))
	default:
		t.on.Store(true)
	}
	return nil
}

// run writes messages of events until ctx ends.
func (t *teller) run(ctx context.Context) {
	if t.to == nil {
		return
	}
	for ctx.Err() == nil {
		pause, err := t.every, error(nil)
		if t.on.Load() {
			err = t.write(ctx)
		} else if err = t.prepare(ctx); err == nil && !t.on.Load() {
			pause = tellTryAgain
		}
		switch {
		case err == nil:
			t.outage.Worked()
			t.wait(ctx, pause)
		case postgres.IsRefusal(err) && ctx.Err() == nil:
			t.on.Store(false)
			t.outage.Worked() // the database answers
			t.faults.Tell(ctx, slog.LevelError, "", "the database refuses to write events; trying again in a minute", slog.Any("error", err))
			t.wait(ctx, tellTryAgain)
		case t.outage.Wait(ctx, err) != nil:
			return
		}
	}
}

// wait returns after most, or soon after something was noted: it waits for a moment, so that what happens together
// is reported together.
func (t *teller) wait(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	wake := t.wake
	if !t.on.Load() {
		wake = nil // nothing can be written
	}
	select {
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	case <-wake:
	}
	moment := time.NewTimer(tellMoment)
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-ctx.Done():
	}
}

const tellMoment = 100 * time.Millisecond

// write writes the queued notes, and then messages for all events that are due.
func (t *teller) write(ctx context.Context) error {
	t.mu.Lock()
	notes := t.notes
	t.notes = nil
	t.mu.Unlock()
	if len(notes) > 0 {
		if err := t.to.Note(ctx, notes); err != nil {
			t.mu.Lock()
			t.notes = append(notes, t.notes...)
			t.mu.Unlock()
			return err
		}
	}
	for more := true; more && ctx.Err() == nil; {
		told, again, err := t.to.Tell(ctx)
		if err != nil {
			return err
		}
		for _, kind := range told {
			t.written[string(kind)].Add(1)
		}
		if len(told) > 0 {
			t.wakeDrain()
		}
		more = again
	}
	return nil
}

// start and stop begin and end the calls of the embedding program. stop comes when no more events can happen.
func (t *teller) start() {
	t.onEvent.start()
	t.onAttempt.start()
}

func (t *teller) stop(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { t.onEvent.stop(ctx) })
	both.Go(func() { t.onAttempt.stop(ctx) })
	both.Wait()
	t.faults.Close()
}
