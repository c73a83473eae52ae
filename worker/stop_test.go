package worker

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestAStopLetsRequestsFinishAndClaimsNothingNew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	arrived, finish := make(chan struct{}), make(chan struct{})
	to := newReceiver(t, func(http.ResponseWriter, request) {
		close(arrived) // a second request would panic, and be noticed
		<-finish
	})
	first := r.writeTo(to.URL, "run-1")
	c := r.config()
	c.PollInterval = time.Hour // so that no claim is under way when the stop begins
	c.ShutdownTimeout, c.DeliveryTimeout, c.Lease = testPatience, testPatience, testPatience+LeaseMargin
	w, stop := r.run(c)
	<-arrived
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	<-w.stopping.Done()
	second := r.writeTo(to.URL, "run-2")
	close(finish)
	<-stopped
	if d := r.state(first); d.State != outbox.StateDelivered || len(d.AttemptList) != 1 {
		t.Errorf("the request under way ended in %s with %d attempts", d.State, len(d.AttemptList))
	}
	if d := r.state(second); d.State != outbox.StatePending || d.Attempts != 0 {
		t.Errorf("what came after the stop began is %s with %d attempts", d.State, d.Attempts)
	}
}

// TestAStopReleasesWhatDoesNotFinish at once and uncounted, whether nothing was answered or half of it.
func TestAStopReleasesWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no answer": "", "half a header": "HTTP/1.1 200 OK\r\nX-A", "half a body": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			arrived := make(chan struct{}, 10)
			to := newSocket(t, func(conn net.Conn) {
				if len(arrived) == 0 {
					readRequest(conn)
					_, _ = conn.Write([]byte(answer))
					arrived <- struct{}{}
					hang(conn)
				}
				sayAndClose("HTTP/1.1 204 No Content\r\n\r\n")(conn)
			})
			id := r.writeTo(to.URL, "run-1")
			c := r.config()
			// A quarter of it is for the record of what is released, and a second more.
			c.ShutdownTimeout, c.DeliveryTimeout, c.Lease = 8*time.Second, testPatience, testPatience+LeaseMargin
			_, stop := r.run(c)
			r.await("the request is under way", func() bool { return len(arrived) > 0 })
			stop()
			if d := r.state(id); d.State != outbox.StatePending || d.Attempts != 0 || len(d.AttemptList) != 0 || d.LockedBy != nil {
				t.Errorf("it is %s with %d attempts, %+v, held by %v", d.State, d.Attempts, d.AttemptList, d.LockedBy)
			}
			c.Lease = 2 * testPatience // one that is left behind would outlast the test's patience
			r.run(c)
			if d := r.awaitState(id, outbox.StateDelivered); len(d.AttemptList) != 1 || d.Attempts != 1 {
				t.Errorf("the second worker needed %d attempts: %+v", d.Attempts, d.AttemptList)
			}
		})
	}
}

func TestAWorkerRunsOnceAndSaysWhetherItIsReady(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, err := New(r.NewPool(t, nil), r.config())
	if err != nil {
		t.Fatal(err)
	}
	if w.Ready(t.Context()) == nil {
		t.Error("it is ready before it runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	r.await("it is ready", func() bool { return w.Ready(t.Context()) == nil })
	if err := w.Run(ctx); err == nil {
		t.Error("it can be run twice at once")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if w.Ready(t.Context()) == nil {
		t.Error("it is ready after it stopped")
	}
	if err := w.Run(t.Context()); err == nil {
		t.Error("it can be run again")
	}
}

func TestAWorkerThatIsStoppedBeforeItStartsReturnsNil(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, err := New(r.NewPool(t, nil), r.config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}
