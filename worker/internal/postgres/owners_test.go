package postgres

import (
	"testing"
	"time"
)

// TestADeadOwnersLeaseCountsNoMore: claims and scans find what a dead worker has, and say that it died. What a living
// worker has stays with it.
func TestADeadOwnersLeaseCountsNoMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	of := r.writeTo("https://a.test/hook", "run-1")
	lost := r.claimOne("dead")
	r.writeTo("https://b.test/hook", "run-2")
	r.claimOne("alive")
	if got := r.claim("other"); len(got) > 0 {
		t.Fatalf("%d messages are claimed under the leases of others", len(got))
	}
	db := Direct(r.Pool)
	db.DeadOwners(func() []string { return []string{"dead", "dead too"} })
	scanner := NewScanner(db, r.Schema, nil)
	full, err := scanner.Full(t.Context(), "")
	if err != nil || endpoints(full.Candidates) != "https://a.test" {
		t.Errorf("a full scan finds %v: %v", full.Candidates, err)
	}
	recent, err := scanner.Recent(t.Context(), time.Minute)
	if err != nil || endpoints(recent.Candidates) != "https://a.test" {
		t.Errorf("a recent scan finds %v: %v", recent.Candidates, err)
	}
	claimer := NewClaimer(db, ClaimerConfig{Schema: r.Schema, Worker: "other", Lease: time.Minute, OpenAfter: openAfter})
	got, err := claimer.Claim(t.Context(), Order{Most: 9, Turns: []Turn{{"https://a.test", longAgo, 9}, {"https://b.test", longAgo, 9}}})
	if err != nil || len(got.Messages) != 1 || got.Messages[0].ID != of || got.Messages[0].Attempt != 2 {
		t.Fatalf("claimed are %+v: %v", got.Messages, err)
	}
	if a := r.state(of).AttemptList; len(a) != 1 || a[0].Class != "lost" || *a[0].Error != "the worker died before it recorded an answer" {
		t.Errorf("its attempts are %+v", a)
	}
	r.record("dead", results(lost)["delivered"]) // it lives after all, and the fence holds
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE message_id = $1 AND locked_by = 'other'`, of); n != 1 {
		t.Error("a worker that was taken for dead changed a message that another one has")
	}
}
