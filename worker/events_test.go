package worker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
	"github.com/seed-abbacb8b/epilogue/webhook"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// heard keeps the arguments of a callback's calls.
type heard[T any] struct {
	mu  sync.Mutex
	all []T
}

func (h *heard[T]) hear(x T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, x)
}

func (h *heard[T]) list() []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// eventReceiver is a receiver of events.
type eventReceiver struct {
	*receiver
	key webhook.Key
}

// receivedEvent is an event as a receiver reads it.
type receivedEvent struct {
	Type string
	Data struct {
		Outbox, Endpoint, Worker, Scope, Tenant string
		Count                                   int
		Reasons                                 map[string]int
		MessageID                               string `json:"message_id"`
	}
}

// sendEventsTo makes a configuration send its events to a new receiver, signed with a key of their own.
func sendEventsTo(t *testing.T, c *Config, answer func(http.ResponseWriter, request)) *eventReceiver {
	t.Helper()
	o := &eventReceiver{newReceiver(t, answer), generate(t, webhook.HMAC)}
	c.EventsURL, c.Keys = o.URL+"/events", newRing(map[string]webhook.Keys{"events": {o.key}})
	return o
}

// events returns the events that arrived, verified.
func (o *eventReceiver) events(t *testing.T) (all []receivedEvent) {
	t.Helper()
	for _, got := range o.requests() {
		if got.path != "/events" {
			continue
		}
		if _, err := (webhook.Verifier{Keys: webhook.Keys{o.key}}).Verify(got.header, []byte(got.body)); err != nil {
			t.Fatal(err)
		}
		var x receivedEvent
		if err := json.Unmarshal([]byte(got.body), &x); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// of returns the events of one type.
func of(all []receivedEvent, kind string) (some []receivedEvent) {
	for _, x := range all {
		if x.Type == kind {
			some = append(some, x)
		}
	}
	return some
}

func TestEventsReachAnAddressThatIsForbiddenToMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	c.AllowHTTP, c.AllowedCIDRs = true, nil // messages must not go to loopback
	o := sendEventsTo(t, &c, nil)
	r.run(c)
	id := r.awaitState(r.writeTo(o.URL+"/events", "run-1"), outbox.StateDead).ID
	r.await("the event arrives", func() bool { return len(o.events(t)) == 1 })
	x := o.events(t)[0]
	if x.Type != "outbox.message.dead" || x.Data.Outbox != r.Schema || x.Data.Endpoint != o.URL || x.Data.Count != 1 || x.Data.Reasons["refused"] != 1 || x.Data.MessageID != id.String() {
		t.Errorf("the event is %+v; want one of the dead message", x)
	}
	r.awaitSettled(r.writeTo(o.URL+"/", "run-2"))
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`) // the second event may be sent now
	r.await("a second event arrives", func() bool { return len(o.events(t)) == 2 })
	for _, got := range o.requests() { // none of them is a message
		if got.runID != "" || got.status != "" {
			t.Errorf("the receiver got a run's message: %+v; want events only", got)
		}
	}
	list, err := r.store.List(t.Context(), operator.Filter{Endpoint: event.Lane})
	if err != nil || len(list) != 2 || list[0].URL != event.URL || list[0].Kind == nil || *list[0].Kind != "event" {
		t.Errorf("the lane of events holds %+v, %v; want two events", list, err)
	}
}

func TestManyDeadMessagesMakeOneEventAndThenOneWithACount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	o := sendEventsTo(t, &c, nil)
	refuses := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusNotFound) })
	r.run(c)
	r.writeTo(refuses.URL, "run-1")
	r.await("the first event arrives", func() bool { return len(o.events(t)) == 1 })
	r.due(refuses.URL, 2000, 1)
	r.await("all other dead messages are counted", func() bool { return r.count(`SELECT coalesce(sum(n), 0)::int FROM outbox.event_told`) == 2000 })
	if n := len(o.events(t)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`)
	r.await("the second event arrives", func() bool { return len(o.events(t)) == 2 })
	if first, second := o.events(t)[0].Data.Count, o.events(t)[1].Data.Count; first != 1 || second != 2000 {
		t.Errorf("the two events count %d and %d messages, want 1 and 2000", first, second)
	}
}

func TestAFailingEventsURLMakesNoEventAndHoldsBackNoMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	c.OpenAfter, c.OpenFor, c.OpenForMax = 2, 10*time.Millisecond, 10*time.Millisecond
	var h heard[Event]
	c.OnEvent = h.hear
	o := sendEventsTo(t, &c, func(w http.ResponseWriter, req request) {
		if req.path == "/events" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r.run(c)
	r.exec(`INSERT INTO outbox.event (kind, lane) SELECT 'breaker.opened', 'https://' || i || '.test' FROM generate_series(1, 5) i`)
	r.await("the events are dead", func() bool { return r.count(`SELECT count(*) FROM outbox.dead WHERE endpoint = 'event'`) == 5 })
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE split_part(endpoint, ' ', 1) = 'event' AND failures >= 2`); n == 0 {
		t.Error("no circuit breaker of an event's lane has opened, want at least one")
	}
	r.awaitState(r.writeTo(o.URL+"/", "run-1"), outbox.StateDelivered)
	if list := h.list(); len(list) != 0 {
		t.Errorf("OnEvent got %+v, want no event", list)
	}
	if n := r.count(`SELECT count(*) FROM outbox.message WHERE kind = 'event'`) + r.count(`SELECT count(*) FROM outbox.event`); n != 5 {
		t.Errorf("%d events and notes, want 5", n)
	}
}

func TestANoteThatSomebodyWroteByHandKeepsNoOtherEventBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	o := sendEventsTo(t, &c, nil)
	r.exec(`INSERT INTO outbox.event (at, kind, lane, n, reason) VALUES
    (now(), 'breaker.opened', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i), 1, 'longer than an index takes'),
    (now(), (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i), 'https://b.test', 1, 'no kind'),
    (now(), 'message.dead', 'https://b.test', 9223372036854775807, 'more than can be added up'),
    (now(), 'message.dead', 'https://b.test', 9223372036854775807, NULL),
    (now(), 'message.dead', 'https://c.test ü', -1, 'no tenant'),
    ('infinity', 'message.dead', '', 0, ''), ('-infinity', '', '', 0, ''),
    (now(), 'breaker.opened', 'https://a.test', 1, 'failing')`)
	r.run(c)
	r.await("the event of the good note arrives", func() bool {
		return slices.ContainsFunc(of(o.events(t), "outbox.breaker.opened"), func(x receivedEvent) bool { return x.Data.Endpoint == "https://a.test" })
	})
	if n := r.count(`SELECT count(*) FROM outbox.event`); n != 0 {
		t.Errorf("%d notes are left, want none", n)
	}
}

func TestTwoWorkersThatNoticeAMissingOneSendOneEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	var h heard[Event]
	c.OnEvent = h.hear
	o := sendEventsTo(t, &c, nil)
	r.run(c)
	r.run(c)
	r.exec(`INSERT INTO outbox.worker (name, host, version, pid, backend_start, started, lease_ms) VALUES ('gone/1', 'gone', '1', 1, now(), now(), 60000)`)
	r.await("both workers notice it", func() bool { return len(h.list()) >= 2 })
	r.await("the notes became messages", func() bool { return len(o.events(t)) > 0 && r.count(`SELECT count(*) FROM outbox.event`) == 0 })
	r.exec(`UPDATE outbox.event_told SET told_at = told_at - interval '5 minutes'`)
	r.exec(`INSERT INTO outbox.event (kind, lane) VALUES ('breaker.opened', 'https://a.test')`) // an event after that of the missing worker
	r.await("the later event arrives", func() bool { return len(of(o.events(t), "outbox.breaker.opened")) == 1 })
	if all := of(o.events(t), "outbox.worker.missing"); len(all) != 1 || all[0].Data.Worker != "gone/1" || all[0].Data.Count != 1 {
		t.Errorf("the events of missing workers are %+v; want one, of gone/1", all)
	}
	if x := h.list()[0]; x.Kind != EventWorkerMissing || x.Worker != "gone/1" {
		t.Errorf("OnEvent was called with %+v; want the missing worker gone/1", x)
	}
}

func TestOnEventIsCalledForDeadMessagesAndCircuitBreakers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var h heard[Event]
	var fails sync.Map
	receiver := newReceiver(t, func(w http.ResponseWriter, req request) {
		if _, failing := fails.Load(req.path); failing {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else if req.path == "/refuses" {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	fails.Store("/fails", true)
	c := r.config()
	c.OnEvent, c.OpenAfter, c.OpenFor = h.hear, 1, 10*time.Millisecond
	c.RetrySchedule = slices.Repeat([]time.Duration{10 * time.Millisecond}, 100)
	r.run(c)
	id := r.awaitState(r.writeTo(receiver.URL+"/refuses", "run-1"), outbox.StateDead).ID
	r.writeTo(receiver.URL+"/fails", "run-2")
	kinds := func() (all []string) {
		for _, x := range h.list() {
			all = append(all, string(x.Kind)+" "+x.Scope)
		}
		return all
	}
	r.await("a circuit breaker opened", func() bool { return slices.Contains(kinds(), "breaker.opened url") })
	fails.Delete("/fails")
	r.await("the circuit breaker closed", func() bool { return slices.Contains(kinds(), "breaker.closed url") })
	death := h.list()[0]
	if death.Kind != EventMessageDead || death.Message != id || death.Reason != "refused" || death.Endpoint != receiver.URL || death.Count != 1 || death.At.IsZero() {
		t.Errorf("the first event is %+v; want one of the dead message", death)
	}
	if n := r.count(`SELECT count(*) FROM outbox.event`); n != 0 {
		t.Errorf("%d notes, want none without a URL for events", n)
	}
}

// TestWhichChangesOfALaneAreEvents: one that failed a few times and answers again is none.
func TestWhichChangesOfALaneAreEvents(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Minute)
	for _, c := range []struct {
		change postgres.EndpointChange
		kind   EventKind
	}{
		{postgres.EndpointChange{What: postgres.EndpointOpened, OpenUntil: &until}, EventBreakerOpened},
		{postgres.EndpointChange{What: postgres.EndpointClosed, WasOpen: true}, EventBreakerClosed},
		{postgres.EndpointChange{What: postgres.EndpointClosed}, ""},
		{postgres.EndpointChange{What: postgres.EndpointGone, OpenUntil: &until}, EventEndpointSetAside},
		{postgres.EndpointChange{What: postgres.EndpointPaused}, EventEndpointSetAside},
	} {
		c.change.Endpoint, c.change.Reason = "https://a.test acme", "why"
		e, is := changeOf(c.change)
		if is != (c.kind != "") || e.Kind != c.kind {
			t.Errorf("%+v: %q (%v), want %q", c.change, e.Kind, is, c.kind)
			continue
		}
		if is && (e.Endpoint != "https://a.test" || e.Tenant != "acme" || e.Scope != event.ScopeTenant || e.Reason != "why" || e.At.IsZero()) {
			t.Errorf("%+v: %+v", c.change, e)
		}
		if opened := c.kind == EventBreakerOpened; !e.OpenUntil.IsZero() != opened || opened && !e.OpenUntil.Equal(until) {
			t.Errorf("%+v: open until %v", c.change, e.OpenUntil)
		}
	}
}

func TestOnAttemptIsCalledForEachAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var h heard[Attempt]
	var once sync.Once
	receiver := newReceiver(t, func(w http.ResponseWriter, _ request) {
		once.Do(func() { w.WriteHeader(http.StatusServiceUnavailable) })
	})
	c := r.patient()
	c.OnAttempt = h.hear
	r.run(c)
	id := r.awaitState(r.write(outbox.Message{Outcome: outbox.RunOutcome{RunID: "run-1", Status: outbox.Succeeded, Result: []byte("{}")}, URL: receiver.URL + "/x", Tenant: "acme"}), outbox.StateDelivered).ID
	r.await("OnAttempt was called twice", func() bool { return len(h.list()) == 2 })
	for i, want := range []string{"1 status 503 retry", "2 delivered 200 delivered"} {
		x := h.list()[i]
		if got := fmt.Sprint(x.Number, " ", x.Class, " ", x.StatusCode, " ", x.Action); got != want ||
			x.Message != id || x.RunID != "run-1" || x.Tenant != "acme" || x.Endpoint != receiver.URL || x.URL != receiver.URL+"/x" || x.Duration <= 0 {
			t.Errorf("%+v; want %s", x, want)
		}
	}
}

func TestACallbackThatPanicsIsCalledAgainAndStopsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, nil)
	var h heard[Attempt]
	c := r.config()
	c.OnAttempt = func(x Attempt) {
		h.hear(x)
		panic("no")
	}
	r.run(c)
	for i := range 3 {
		r.awaitState(r.writeTo(receiver.URL, fmt.Sprint("run-", i)), outbox.StateDelivered)
	}
	r.await("OnAttempt was called for each message", func() bool { return len(h.list()) == 3 })
}

func TestAFullQueueOfACallbackDropsAndCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, nil)
	const more = callbacksMost + 100
	hangs, called := make(chan struct{}), make(chan struct{}, 1+more)
	c := r.config()
	c.OnAttempt = func(Attempt) {
		called <- struct{}{}
		<-hangs
	}
	m := measure(t, &c)
	r.run(c)
	r.writeTo(receiver.URL, "run-1")
	<-called // this call hangs
	r.due(receiver.URL, more, 1)
	r.await("all messages are delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	r.awaitSeries(m, "outbox.dropped{what=on_attempt}", more-callbacksMost)
	close(hangs)
	r.await("OnAttempt was called for all that were queued", func() bool { return len(called) == callbacksMost })
}

func TestACallbackThatHangsDoesNotDelayAStop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, nil)
	hangs, called := make(chan struct{}), make(chan struct{})
	c := r.config()
	c.OnAttempt = func(Attempt) {
		close(called)
		<-hangs
	}
	_, stop := r.run(c)
	r.writeTo(receiver.URL, "run-1")
	<-called
	stop() // fails the test when it does not return
	close(hangs)
}

func TestEventsBeginWhenTheirTablesExist(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 8'`)
	r.exec(`ALTER TABLE outbox.event RENAME TO not_yet`)
	c := r.config()
	o := sendEventsTo(t, &c, nil)
	w, stop := r.run(c)
	refuses := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusNotFound) })
	r.awaitState(r.writeTo(refuses.URL, "run-1"), outbox.StateDead)
	if w.teller.on.Load() {
		t.Error("events are on without their tables")
	}
	r.exec(`ALTER TABLE outbox.not_yet RENAME TO event`)
	r.exec(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9'`)
	stop()
	r.run(c)
	r.awaitState(r.writeTo(refuses.URL, "run-2"), outbox.StateDead)
	r.await("an event arrives", func() bool { return len(o.events(t)) == 1 })
}

func TestEventsAreAlwaysSigned(t *testing.T) {
	t.Parallel()
	c := Config{EventsURL: "https://ops.example/x"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "Keys") {
		t.Errorf("without keys, Validate returns %v; want an error that names Keys", err)
	}
	c = Config{EventsURL: "ftp://ops.example/secret", Keys: newRing(nil)}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "EventsURL") || strings.Contains(err.Error(), "secret") {
		t.Errorf("with an ftp URL, Validate returns %v; want an error that names EventsURL and does not show the URL", err)
	}
}
