package worker

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// watched is a Sender that signals when a request begins, and may delay its answer on the way to the worker.
type watched struct {
	attempter
	began  chan struct{}
	answer func(ctx context.Context) // called before each answer is passed on; nil: no delay
}

func (s watched) Send(ctx context.Context, m delivery.Message) delivery.Answer {
	s.began <- struct{}{}
	a := s.attempter.Send(ctx, m)
	if s.answer != nil {
		s.answer(ctx)
	}
	return a
}

// watch runs a worker whose Sender is watched.
func (r *rig) watch(c Config, answer func(ctx context.Context)) (w *Worker, began chan struct{}, stop func()) {
	r.t.Helper()
	w, err := New(r.NewPool(r.t, nil), c)
	must(r.t, err)
	began = make(chan struct{}, 100)
	w.attempts = watched{w.sender, began, answer}
	return w, began, r.begin(w)
}

// TestAnAnswerThatComesAtTheEndOfAStopCounts: it is recorded, and its message is not sent again.
func TestAnAnswerThatComesAtTheEndOfAStopCounts(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]outbox.State{
		http.StatusNoContent: outbox.StateDelivered, http.StatusBadGateway: outbox.StateRetrying, http.StatusNotFound: outbox.StateDead,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			to := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(status) })
			id := r.writeTo(to.URL, "run-1")
			c := r.patientOnce()
			c.ShutdownTimeout = 4 * time.Second
			_, began, stop := r.watch(c, func(ctx context.Context) { <-ctx.Done() })
			<-began
			stop()
			if d := r.state(id); d.State != want || d.Attempts != 1 || len(d.AttemptList) != 1 || d.LockedBy != nil {
				t.Errorf("the message is %s with %d attempts, %+v, leased to %v; want one attempt on record, and no lease", d.State, d.Attempts, d.AttemptList, d.LockedBy)
			}
			r.run(c)
			r.awaitState(r.writeTo(newReceiver(t, nil).URL, "run-2"), outbox.StateDelivered) // another worker has scanned
			if n := len(to.requests()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

// TestARequestOutlivesRiversStop: River has ended the job, and the request goes on until it is answered.
func TestARequestOutlivesRiversStop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	arrived, finish := make(chan struct{}), make(chan struct{})
	to := newReceiver(t, func(http.ResponseWriter, request) { close(arrived); <-finish })
	id := r.writeTo(to.URL, "run-1")
	c := r.patient()
	c.ShutdownTimeout = testPatience
	w, began, stop := r.watch(c, nil)
	<-began // Run has set w.client before this
	<-arrived
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	<-w.client.Stopped()
	time.Sleep(300 * time.Millisecond) // time in which a fault would end the request
	close(finish)
	<-stopped
	if d := r.state(id); d.State != outbox.StateDelivered || len(d.AttemptList) != 1 {
		t.Errorf("the message is %s with %+v; want it delivered by one attempt", d.State, d.AttemptList)
	}
}

// TestAStopGivesBackWhatWasClaimedAhead at once, and these attempts are not counted. Open requests go on, and none begins.
func TestAStopGivesBackWhatWasClaimedAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	released := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(released) })
	t.Cleanup(letGo)
	var mu sync.Mutex
	slow, open, times := false, 0, map[string]int{}
	to := newReceiver(t, func(_ http.ResponseWriter, req request) {
		mu.Lock()
		times[req.id]++
		wait := slow
		if wait {
			open++
		}
		mu.Unlock()
		if wait {
			<-released
		}
	})
	c := r.patient()
	c.EndpointMaxInFlight, c.ShutdownTimeout = 4, testPatience
	const messages = 2000
	r.due(to.URL, messages, 0) // the answers come quickly, so the worker claims ahead
	_, stop := r.run(c)
	r.await("some messages are delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.attempt`) > 200 })
	mu.Lock()
	slow = true
	mu.Unlock()
	const leased = `SELECT count(*) FROM outbox.due WHERE locked_by IS NOT NULL`
	r.await("the window is full of open requests, and more messages are claimed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return open == c.EndpointMaxInFlight && r.count(leased) > open
	})
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	r.await("only the messages of open requests are leased", func() bool { return r.count(leased) == c.EndpointMaxInFlight })
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by IS NULL AND attempt > 0`); n > 0 {
		t.Errorf("%d messages that were given back have an attempt, want none", n)
	}
	letGo()
	<-stopped
	if open > c.EndpointMaxInFlight {
		t.Errorf("%d requests began after the stop, want none", open-c.EndpointMaxInFlight)
	}
	c.ShutdownTimeout = 5 * time.Second
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	twice := 0
	for _, n := range times {
		if n > 1 {
			twice++
		}
	}
	if len(times) != messages || twice > 0 {
		t.Errorf("%d of %d messages arrived, %d of them twice; want all, and none twice", len(times), messages, twice)
	}
}
