package postgres

import (
	"bytes"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestAScanFindsWhatCanBeClaimedAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, endpoint := range []string{"closed", "due", "half-leased", "leased", "open", "over", "paused", "probe"} {
		r.due(endpoint, 2, 0)
	}
	r.due("future", 1, -3600)
	r.exec(`UPDATE outbox.due SET locked_by = 'w', locked_until = now() + interval '1 h' WHERE endpoint = 'leased'`)
	r.exec(`UPDATE outbox.due SET locked_by = 'w', locked_until = now() - interval '1 s' WHERE endpoint = 'over'`)
	r.exec(`UPDATE outbox.due SET locked_by = 'w', locked_until = now() + interval '1 h'
WHERE message_id = (SELECT message_id FROM outbox.due WHERE endpoint = 'half-leased' ORDER BY due_at LIMIT 1)`)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, failures, open_until, reason) VALUES
('paused', true, 0, NULL, ''), ('open', false, 10, now() + interval '1 h', ''), ('probe', false, 10, now() - interval '1 s', ''),
('closed', false, 3, NULL, '')`)
	const want = "closed due half-leased over probe"
	s := NewScanner(r.Pool, r.Schema)
	full, err := s.Full(t.Context(), "")
	if got := endpoints(full); err != nil || got != want {
		t.Errorf("a full scan finds %s: %v; want %s", got, err, want)
	}
	for _, c := range full {
		since := one[time.Time](r, `SELECT min(due_at) FROM outbox.due WHERE endpoint = $1 AND coalesce(locked_until < now(), true)`, c.Endpoint)
		if !since.Equal(c.Since) {
			t.Errorf("%s has something to claim since %v, and not since %v", c.Endpoint, since, c.Since)
		}
	}
	// The ids in this test were made without a clock, so the recent scan is asked for all there are.
	last := outbox.ID(bytes.Repeat([]byte{255}, len(outbox.ID{})))
	recent, err := s.scan(t.Context(), ClaimTimeout, s.recent, outbox.ID{}, last, ScanMax)
	if got := endpoints(recent); err != nil || got != want {
		t.Errorf("a recent scan of everything finds %s: %v; want %s", got, err, want)
	}
}

func TestARecentScanFindsWhatWasWrittenSince(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	for endpoint, at := range map[string]time.Time{"early": now.Add(-time.Minute), "late": now, "ahead": now.Add(time.Minute)} {
		r.exec(`INSERT INTO outbox.due (message_id, endpoint) VALUES ($1, $2)`, outbox.IDFloor(at), endpoint)
	}
	s := NewScanner(r.Pool, r.Schema)
	for since, want := range map[time.Time]string{now.Add(-time.Second): "late", now.Add(-time.Hour): "early late"} {
		if got, err := s.Recent(t.Context(), since); err != nil || endpoints(got) != want {
			t.Errorf("since %v it finds %s: %v; want %s", since, endpoints(got), err, want)
		}
	}
}

func TestFullScansGoOnWhereTheLastOneWasCut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const all = 2*ScanMax + 1
	r.exec(`INSERT INTO outbox.due (message_id, endpoint) SELECT gen_random_uuid(), 'e' || i FROM generate_series(1, $1::integer) i`, all)
	s, after := NewScanner(r.Pool, r.Schema), ""
	seen := map[string]bool{}
	for i, want := range []int{ScanMax, ScanMax, 1, 0} {
		found, err := s.Full(t.Context(), after)
		if err != nil || len(found) != want {
			t.Fatalf("scan %d found %d: %v; want %d", i+1, len(found), err, want)
		}
		for _, c := range found {
			seen[c.Endpoint] = true
			after = c.Endpoint
		}
	}
	if len(seen) != all {
		t.Errorf("%d endpoints were found, want %d", len(seen), all)
	}
}
