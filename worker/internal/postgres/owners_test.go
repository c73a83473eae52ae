package postgres

import (
	"testing"
	"time"
)

// TestTheLeaseOfADeadWorkerDoesNotCount: claims and scans find its messages, and the attempts say that it died. A living
// worker keeps its messages.
func TestTheLeaseOfADeadWorkerDoesNotCount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	of := r.writeTo("https://a.test/hook", "run-1")
	lost := r.claimOne("dead")
	r.writeTo("https://b.test/hook", "run-2")
	r.claimOne("alive")
	if got := r.claim("other"); len(got) > 0 {
		t.Fatalf("%d messages are claimed under the leases of others, want none", len(got))
	}
	db := Direct(r.Pool)
	db.DeadOwners(func() []string { return []string{"dead", "dead too"} })
	scanner := NewScanner(db, r.Schema, nil)
	full, err := scanner.Full(t.Context(), "")
	if err != nil || endpoints(full.Candidates) != "https://a.test" {
		t.Errorf("a full scan finds %v, %v; want a.test", full.Candidates, err)
	}
	recent, err := scanner.Recent(t.Context(), time.Minute)
	if err != nil || endpoints(recent.Candidates) != "https://a.test" {
		t.Errorf("a recent scan finds %v, %v; want a.test", recent.Candidates, err)
	}
	claimer := NewClaimer(db, ClaimerConfig{Schema: r.Schema, Worker: "other", Lease: time.Minute, OpenAfter: openAfter})
	got, err := claimer.Claim(t.Context(), Order{Most: 9, Turns: []Turn{{"https://a.test", longAgo, 9}, {"https://b.test", longAgo, 9}}})
	if err != nil || len(got.Messages) != 1 || got.Messages[0].ID != of || got.Messages[0].Attempt != 2 {
		t.Fatalf("the claim takes %+v, %v; want the dead worker's message as attempt 2", got.Messages, err)
	}
	if a := r.state(of).AttemptList; len(a) != 1 || a[0].Class != "lost" || *a[0].Error != "the worker died before it recorded an answer" {
		t.Errorf("the attempts are %+v, want one lost because the worker died", a)
	}
	r.record("dead", results(lost)["delivered"]) // it is alive after all; the fence must hold
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE message_id = $1 AND locked_by = 'other'`, of); n != 1 {
		t.Error("a worker that was taken for dead changed a message that another worker has a lease for")
	}
}
