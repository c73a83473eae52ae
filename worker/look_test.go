package worker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// finds runs one way to look to its end.
func (r *rig) finds(l *looker, by *look, args ...any) []string {
	r.t.Helper()
	all, err := l.run(r.t.Context(), by, args)
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Endpoint)
	}
	slices.Sort(names)
	return names
}

func TestALookFindsWhatCanBeClaimedAndNothingElse(t *testing.T) {
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
	want := []string{"closed", "due", "half-leased", "over", "probe"}
	last := outbox.ID(bytes.Repeat([]byte{255}, len(outbox.ID{})))
	l := newLooker(r.Pool, r.Schema)
	if got := r.finds(l, &l.full, "", lookMax); !slices.Equal(got, want) {
		t.Errorf("a full look finds %v, want %v", got, want)
	}
	if got := r.finds(l, &l.fresh, outbox.ID{}, last, lookMax); !slices.Equal(got, want) {
		t.Errorf("a fresh look at everything finds %v, want %v", got, want)
	}
}

func TestAFreshLookFindsWhatWasWrittenSince(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://early.test/", "run")
	since := time.Now().Add(2 * time.Millisecond)
	r.await("the clock went on", func() bool { return time.Now().After(since) })
	r.writeTo("https://late.test/", "run")
	l := newLooker(r.Pool, r.Schema)
	if got := fmt.Sprint(r.finds(l, &l.fresh, writtenSince(since)...)); got != "[https://late.test]" {
		t.Errorf("it finds %s", got)
	}
}

func TestFullLooksGoOnWhereTheLastOneWasCut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const endpoints = 2*lookMax + 1
	r.exec(`INSERT INTO outbox.due (message_id, endpoint) SELECT gen_random_uuid(), 'e' || i FROM generate_series(1, $1::integer) i`, endpoints)
	l := newLooker(r.Pool, r.Schema)
	seen := map[string]bool{}
	for i, want := range []int{lookMax, lookMax, 1, lookMax} {
		l.full.restsTo = time.Time{}
		if began, _ := l.begin(t.Context()); !began {
			t.Fatal("it does not begin")
		}
		result := <-l.done
		if more := l.end(result); result.err != nil || len(result.found) != want || more != (want == lookMax) {
			t.Errorf("look %d found %d, more: %v, %v; want %d", i+1, len(result.found), more, result.err, want)
		}
		for _, f := range result.found {
			seen[f.Endpoint] = true
		}
	}
	if len(seen) != endpoints {
		t.Errorf("%d endpoints were found, want %d", len(seen), endpoints)
	}
}

// TestWhileAFullLookIsDearFreshOnesAreMade, also while one is under way.
func TestWhileAFullLookIsDearFreshOnesAreMade(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, full := range map[string]look{
		"at rest":   {took: time.Second, restsTo: time.Now().Add(time.Hour)},
		"under way": {began: time.Now().Add(-time.Second)},
	} {
		l := newLooker(r.Pool, r.Schema)
		full.sql, full.most = l.full.sql, l.full.most
		l.full = full
		if began, _ := l.begin(t.Context()); !began {
			t.Fatalf("%s: no look begins", name)
		}
		if result := <-l.done; result.by != &l.fresh || result.err != nil {
			t.Errorf("%s: it is a full look, or failed: %v", name, result.err)
		}
	}
	l := newLooker(r.Pool, r.Schema)
	l.full.took, l.full.restsTo = time.Millisecond, time.Now().Add(time.Hour)
	if began, wait := l.begin(context.Background()); began || wait <= 0 {
		t.Errorf("a full look is cheap and at rest, and yet one begins: %v, or is not waited for: %v", began, wait)
	}
}

// TestAMessageThatIsCommittedLateIsDelivered: its due time lies before what was claimed of its endpoint.
func TestAMessageThatIsCommittedLateIsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	r.run(r.config())
	r.awaitState(r.writeTo(to.URL, "early"), outbox.StateDelivered)
	r.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint)
VALUES (gen_random_uuid(), 'late', 'succeeded', '', 0, $1::text, $1::text)`, to.URL)
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT id, endpoint, now() - interval '1 h' FROM outbox.message WHERE run_id = 'late'`)
	r.await("it is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 && len(to.requests()) == 2 })
}
