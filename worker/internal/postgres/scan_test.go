package postgres

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestAScanFindsEndpointsWithClaimableMessagesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`CREATE FUNCTION outbox.id() RETURNS uuid LANGUAGE sql AS
$$SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || substr(replace(gen_random_uuid()::text, '-', ''), 13))::uuid$$`)
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
	s := NewScanner(Direct(r.Pool), r.Schema, nil)
	full, err := s.Full(t.Context(), "")
	if got := endpoints(full.Candidates); err != nil || got != want {
		t.Errorf("a full scan finds %s, %v; want %s", got, err, want)
	}
	for _, c := range full.Candidates {
		since := one[time.Time](r, `SELECT min(due_at) FROM outbox.due WHERE endpoint = $1 AND coalesce(locked_until < now(), true)`, c.Endpoint)
		if !since.Equal(c.Since) {
			t.Errorf("%[1]s: the scan says that something is due since %[3]v, want %[2]v", c.Endpoint, since, c.Since)
		}
	}
	r.exec(`UPDATE outbox.due SET message_id = outbox.id()`) // the ids of this test hold no time
	recent, err := s.Recent(t.Context(), time.Minute)
	if got := endpoints(recent.Candidates); err != nil || got != want {
		t.Errorf("a recent scan of everything finds %s, %v; want %s", got, err, want)
	}
}

func TestARecentScanFindsWhatWasWrittenSince(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	for endpoint, at := range map[string]time.Time{"early": now.Add(-time.Minute), "late": now, "ahead": now.Add(time.Minute)} {
		r.exec(`INSERT INTO outbox.due (message_id, endpoint) VALUES ($1, $2)`, outbox.ID(uuid7.Floor(at)), endpoint)
	}
	s := NewScanner(Direct(r.Pool), r.Schema, nil)
	for ago, want := range map[time.Duration]string{10 * time.Second: "late", time.Hour: "early late", 100 * 365 * 24 * time.Hour: "early late"} {
		if got, err := s.Recent(t.Context(), ago); err != nil || endpoints(got.Candidates) != want {
			t.Errorf("a recent scan since %v ago finds %s, %v; want %s", ago, endpoints(got.Candidates), err, want)
		}
	}
}

func TestFullScansGoOnWhereTheLastOneWasCut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const all = 2*ScanMax + 1
	r.exec(`INSERT INTO outbox.due (message_id, endpoint) SELECT gen_random_uuid(), 'e' || i FROM generate_series(1, $1::integer) i`, all)
	s, after := NewScanner(Direct(r.Pool), r.Schema, nil), ""
	seen := map[string]bool{}
	for i, want := range []int{ScanMax, ScanMax, 1, 0} {
		scan, err := s.Full(t.Context(), after)
		found := scan.Candidates
		if err != nil || len(found) != want {
			t.Fatalf("scan %d found %d endpoints, %v; want %d", i+1, len(found), err, want)
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

// TestAScansDurationDoesNotIncludeItsWaitForALock.
func TestAScansDurationDoesNotIncludeItsWaitForALock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 1, 0)
	release := faulty.Hold(t, r.Pool, sqlschema.In(`LOCK TABLE outbox.due IN ACCESS EXCLUSIVE MODE`, r.Schema))
	type result struct {
		scan Scan
		err  error
		took time.Duration
	}
	done := make(chan result)
	go func() {
		began := time.Now()
		scan, err := NewScanner(Direct(r.Pool), r.Schema, nil).Full(t.Context(), "")
		done <- result{scan, err, time.Since(began)}
	}()
	for one[int](r, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('outbox.due')`) == 0 {
		time.Sleep(time.Millisecond) // polls until the scan waits; no event tells of that
	}
	waits := time.Now()
	time.Sleep(300 * time.Millisecond) // the scan waits meanwhile
	waited := time.Since(waits)
	release()
	if got := <-done; got.err != nil || len(got.scan.Candidates) != 1 || got.scan.Took > got.took-waited {
		t.Errorf("the scan found %v after %v, waited %v of that, and says that it took %v, %v; want one endpoint, and the wait left out", got.scan.Candidates, got.took, waited, got.scan.Took, got.err)
	}
}
