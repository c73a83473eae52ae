package roster

import (
	"testing"
	"time"
)

// TestARegisteredWorkerAsksOftenWhetherItsSessionIsThere: a server can close it without the worker being told.
func TestARegisteredWorkerAsksOftenWhetherItsSessionIsThere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := New(Config{Name: "one", Schema: "outbox"})
	r.heldAt, r.beatAt = now, now.Add(beatEvery)
	if next := r.Next(); !next.Equal(r.beatAt) {
		t.Errorf("where it cannot register, the next beat is in %v", next.Sub(now))
	}
	r.registered = true
	if next := r.Next(); !next.Equal(now.Add(pulseEvery)) {
		t.Errorf("registered, the next beat is in %v", next.Sub(now))
	}
	r.probeAt = now.Add(probeEvery)
	if next := r.Next(); !next.Equal(r.probeAt) {
		t.Errorf("while it suspects another, the next beat is in %v", next.Sub(now))
	}
}
