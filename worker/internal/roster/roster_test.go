package roster

import (
	"testing"
	"time"
)

// TestARegisteredWorkerChecksItsSessionOften: the server can close the session, and the worker gets no message of it.
func TestARegisteredWorkerChecksItsSessionOften(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := New(Config{Name: "one", Schema: "outbox"})
	r.heldAt, r.beatAt = now, now.Add(beatEvery)
	if next := r.Next(); !next.Equal(r.beatAt) {
		t.Errorf("not registered: the next beat is in %v, want in %v", next.Sub(now), beatEvery)
	}
	r.registered = true
	if next := r.Next(); !next.Equal(now.Add(pulseEvery)) {
		t.Errorf("registered: the next beat is in %v, want in %v", next.Sub(now), pulseEvery)
	}
	r.probeAt = now.Add(probeEvery)
	if next := r.Next(); !next.Equal(r.probeAt) {
		t.Errorf("while it suspects another worker: the next beat is in %v, want in %v", next.Sub(now), probeEvery)
	}
}
