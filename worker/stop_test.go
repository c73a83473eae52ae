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
		close(arrived) // panics at a second request, so that the test fails
		<-finish
	})
	first := r.writeTo(to.URL, "run-1")
	c := r.config()
	c.PollInterval = time.Hour // long, so that no claim is under way when the stop begins
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
		t.Errorf("the first message is %s with %d attempts, want delivered with 1", d.State, len(d.AttemptList))
	}
	if d := r.state(second); d.State != outbox.StatePending || d.Attempts != 0 {
		t.Errorf("the message written after the stop began is %s with %d attempts, want pending with none", d.State, d.Attempts)
	}
}

// TestAStopReleasesMessagesWhoseRequestsDoNotEnd, and their attempts are not counted, also when half of an answer came.
func TestAStopReleasesMessagesWhoseRequestsDoNotEnd(t *testing.T) {
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
			// A quarter of the shutdown timeout is for recording the releases, and a second more.
			c.ShutdownTimeout, c.DeliveryTimeout, c.Lease = 8*time.Second, testPatience, testPatience+LeaseMargin
			_, stop := r.run(c)
			r.await("the request is under way", func() bool { return len(arrived) > 0 })
			stop()
			if d := r.state(id); d.State != outbox.StatePending || d.Attempts != 0 || len(d.AttemptList) != 0 || d.LockedBy != nil {
				t.Errorf("the message is %s with %d attempts, %+v, leased to %v; want it pending with none, and no lease", d.State, d.Attempts, d.AttemptList, d.LockedBy)
			}
			c.Lease = 2 * testPatience // so long that a lease left behind would make the test fail
			r.run(c)
			if d := r.awaitState(id, outbox.StateDelivered); len(d.AttemptList) != 1 || d.Attempts != 1 {
				t.Errorf("the second worker needed %d attempts: %+v; want 1", d.Attempts, d.AttemptList)
			}
		})
	}
}

func TestAWorkerRunsOnceAndIsReadyOnlyWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, err := New(r.NewPool(t, nil), r.config())
	if err != nil {
		t.Fatal(err)
	}
	if w.Ready(t.Context()) == nil {
		t.Error("the worker is ready before it runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	r.await("the worker is ready", func() bool { return w.Ready(t.Context()) == nil })
	if err := w.Run(ctx); err == nil {
		t.Error("a second Run beside the first returns nil, want an error")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returns %v, want nil", err)
	}
	if w.Ready(t.Context()) == nil {
		t.Error("the worker is ready after it stopped")
	}
	if err := w.Run(t.Context()); err == nil {
		t.Error("Run after the stop returns nil, want an error")
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
		t.Errorf("Run returns %v, want nil", err)
	}
}
