package worker

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

func (r *rig) writeBytes(url string, n int) outbox.ID {
	r.t.Helper()
	body := bytes.Repeat([]byte("x"), n)
	return r.write(outbox.Message{Outcome: outbox.RunOutcome{RunID: "run", Status: outbox.Succeeded, Result: body}, URL: url})
}

func TestALargeBodyArrivesWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	sizes := []int{0, postgres.BodyMax, postgres.BodyMax + 1, 1 << 20}
	for _, n := range sizes {
		r.awaitState(r.writeBytes(to.URL, n), outbox.StatePending)
	}
	r.run(r.config())
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	got := map[int]bool{}
	for _, req := range to.requests() {
		got[len(req.body)] = true
	}
	for _, n := range sizes {
		if !got[n] {
			t.Errorf("no body of %d bytes arrived, want one; bodies of these sizes did: %v", n, got)
		}
	}
}

// TestLargeBodiesInFlightAreBounded: with room for two, a third is not sent while two are in flight. It waits, and the wait
// is no attempt.
func TestLargeBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var now, most atomic.Int64
	to := newReceiver(t, func(http.ResponseWriter, request) {
		n := now.Add(1)
		for {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(20 * time.Millisecond) // a receiver's work, so that requests overlap
		now.Add(-1)
	})
	var ids []outbox.ID
	for range 30 {
		ids = append(ids, r.writeBytes(to.URL, 1<<20))
	}
	c := r.patient()
	c.MaxBytesInFlight = 2 << 20
	r.run(c)
	for _, id := range ids {
		if d := r.awaitState(id, outbox.StateDelivered); d.Attempts != 1 {
			t.Errorf("%d attempts, want 1", d.Attempts)
		}
	}
	if m := most.Load(); m > 2 {
		t.Errorf("%d bodies were in flight at once, want 2 at most", m)
	}
}
