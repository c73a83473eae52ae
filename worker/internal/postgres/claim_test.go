package postgres

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

var longAgo = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// TestAClaimServesItsTurnsInTheirOrder: each turn gives its part at most, however many messages wait, and the claim ends when
// it has enough.
func TestAClaimServesItsTurnsInTheirOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("flood", 500, 3600)
	for _, endpoint := range []string{"B", "a", "é"} { // collations order these names in different ways
		r.due(endpoint, 10, 0)
	}
	turns := []Turn{{"é", longAgo, 2}, {"flood", longAgo, 3}, {"a", longAgo, 4}, {"B", longAgo, 5}}
	for _, want := range []string{"map[a:2 flood:3 é:2]", "map[a:2 flood:3 é:2]"} {
		if got := perEndpoint(r.claimOrder("one", Order{Most: 7, Turns: turns})); got != want {
			t.Errorf("claimed %s, want %s", got, want)
		}
	}
	if got, want := perEndpoint(r.claimOrder("one", Order{Most: 100, Turns: turns})), "map[B:5 a:4 flood:3 é:2]"; got != want {
		t.Errorf("claimed %s, want %s", got, want)
	}
}

func TestAClaimSkipsRowsThatOthersHaveLocked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 3, 0)
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		sql := sqlschema.In(`SELECT FROM outbox.due ORDER BY due_at LIMIT 2 FOR UPDATE`, r.Schema)
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			return err
		}
		if got := r.claim("one"); len(got) != 1 {
			t.Errorf("%d messages are claimed while two of three are locked, want 1", len(got))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.claim("two"); len(got) != 2 {
		t.Errorf("%d messages are claimed afterwards, want 2", len(got))
	}
}

func TestAClaimSkipsEndpointsThatAreHeldBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var turns []Turn
	for _, endpoint := range []string{"held", "held-once", "paused", "paused-and-held-once", "remembered", "unknown"} {
		r.due(endpoint, 2, 0)
		turns = append(turns, Turn{endpoint, longAgo, 100})
	}
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, open_until, reason) VALUES
('held', false, now() + interval '1 h', ''), ('held-once', false, now() - interval '1 s', ''), ('paused', true, NULL, ''),
('paused-and-held-once', true, now() - interval '1 s', ''), ('remembered', false, NULL, '')`)
	if got, want := perEndpoint(r.claimOrder("one", Order{Most: 100, Turns: turns})), "map[held-once:2 remembered:2 unknown:2]"; got != want {
		t.Errorf("claimed %s, want %s", got, want)
	}
}

func TestAClaimTakesTheLongestDueFirstAndNothingThatIsNotDueYet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 5, 0)
	r.exec(`UPDATE outbox.due d SET due_at = due_at + interval '1 h' FROM outbox.message m
WHERE m.id = d.message_id AND m.run_id IN ('a#3', 'a#4', 'a#5')`)
	var order []string
	for range 3 {
		for _, m := range r.claimOrder("one", Order{Most: 1, Turns: []Turn{{"a", longAgo, 1}}}) {
			order = append(order, m.RunID)
		}
	}
	if got := strings.Join(order, " "); got != "a#1 a#2" {
		t.Errorf("claimed %s, want a#1 a#2", got)
	}
}

// TestATurnTakesMessagesFromItsDueTimeOn, and its messages say from which due time the next turn may take.
func TestATurnTakesMessagesFromItsDueTimeOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 3, 10)
	from := one[time.Time](r, `SELECT due_at FROM outbox.due ORDER BY due_at OFFSET 1 LIMIT 1`)
	messages := r.claimOrder("one", Order{Most: 9, Turns: []Turn{{"a", from, 1}}})
	if len(messages) != 1 || messages[0].RunID != "a#2" || !messages[0].DueFrom.Equal(from) {
		t.Fatalf("claimed %+v, want a#2, due from %v", messages, from)
	}
	r.exec(`UPDATE outbox.due SET due_at = now() WHERE locked_by IS NULL`)
	for _, m := range r.claim("one") {
		if n := r.count(`SELECT count(*) FROM outbox.due WHERE $1 = locked_until - $2::interval - interval '250 ms'`, m.DueFrom, lease); n != 2 {
			t.Errorf("of a message that became due just now, DueFrom is %v; want a little before the claim, for late commits", m.DueFrom)
		}
	}
}

func TestAClaimReturnsAllThatARequestNeeds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	headers := map[string]string{"X-A": "b"}
	write := func(o outbox.RunOutcome, forward ...string) {
		o.Headers = headers
		r.write(outbox.Message{Outcome: o, URL: "https://a.test/hook?x=y", Options: outbox.Options{Forward: forward}})
	}
	write(outbox.RunOutcome{RunID: "succeeded", Status: outbox.Succeeded, Result: []byte{0, 255}})
	write(outbox.RunOutcome{RunID: "empty", Status: outbox.Succeeded})
	write(outbox.RunOutcome{RunID: "failed", Status: outbox.Failed, Error: "grüße"}, "X-A")
	write(outbox.RunOutcome{RunID: "cancelled", Status: outbox.Cancelled})
	bodies := map[string]string{"succeeded": "\x00\xff", "empty": "", "failed": "grüße", "cancelled": ""}
	for _, m := range r.claim("one") {
		if string(m.Body) != bodies[m.RunID] || m.Body == nil || m.BodyBytes != len(m.Body) || string(m.Status) != strings.Replace(m.RunID, "empty", "succeeded", 1) ||
			m.URL != "https://a.test/hook?x=y" || m.Endpoint != "https://a.test" || m.Attempt != 1 || m.AttemptsBefore != 0 || m.MaxInFlight != 0 || m.Rate != 0 {
			t.Errorf("%s: the claim returns %+v, want the message as it was written", m.RunID, m)
		}
		if forwards := m.RunID == "failed"; (m.Headers != nil) != forwards || (m.Options != nil) != forwards {
			t.Errorf("%s: the claim returns headers %s and options %s, want them only where headers are forwarded", m.RunID, m.Headers, m.Options)
		}
		delete(bodies, m.RunID)
	}
	if len(bodies) > 0 {
		t.Errorf("these messages were not claimed: %v", bodies)
	}
}

func TestAClaimReturnsTheOperatorsLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	limits := map[string]operator.Limits{
		"https://both.test": {MaxInFlight: 7, RatePerSecond: 2.5}, "https://max.test": {MaxInFlight: 3},
		"https://rate.test": {RatePerSecond: 0.5}, "https://none.test": {},
	}
	for endpoint, l := range limits {
		r.writeTo(endpoint+"/hook", "run")
		if err := r.store.Limit(t.Context(), endpoint, l, ""); err != nil {
			t.Fatal(err)
		}
	}
	r.exec(`UPDATE outbox.endpoint SET granted_at = now() - interval '1 h'`)
	messages := r.claim("one")
	for _, m := range messages {
		if l := limits[m.Endpoint]; m.OriginMax != l.MaxInFlight || m.Rate != l.RatePerSecond {
			t.Errorf("%s: %d in flight, %v per second, want %+v", m.Endpoint, m.OriginMax, m.Rate, l)
		}
	}
	if len(messages) != len(limits) {
		t.Errorf("%d messages claimed, want %d", len(messages), len(limits))
	}
}

// TestAClaimTakesNoMoreThanAnOperatorsLimit of requests in flight, which the caller counts.
func TestAClaimTakesNoMoreThanAnOperatorsLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 10, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, max_in_flight, reason) VALUES ('a', 4, '')`)
	if n := len(r.claim("one")); n != 4 {
		t.Errorf("%d messages are claimed, want 4", n)
	}
}

// claimRecent makes a claim that also reads the messages of the last minute. It returns the runs of those that it took, and the
// endpoints of those that it left behind.
func (r *rig) claimRecent(o Order) (took, left string) {
	r.t.Helper()
	c := r.claimer("one")
	c.since = time.Now().Add(-time.Minute)
	claimed, err := c.Claim(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	var of []string
	for _, m := range claimed.Messages {
		of = append(of, m.RunID)
	}
	slices.Sort(of)
	return strings.Join(of, " "), endpoints(claimed.Left)
}

func TestAClaimReturnsTheEndpointsThatItLeftBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://asked.test/", "run-1")
	r.writeTo("https://later.test/", "run-2")
	r.writeTo("https://new.test/", "run-3")
	took, left := r.claimRecent(Order{Most: 9, Turns: []Turn{
		{Endpoint: "https://asked.test", Most: 1}, {Endpoint: "https://later.test", Most: 1, From: time.Now().Add(time.Hour)},
	}})
	if took != "run-1" || left != "https://later.test https://new.test" {
		t.Errorf("the claim took %s and left %s, want run-1, and the endpoints later and new", took, left)
	}
}

// TestAClaimTakesOneRecentMessageOfEachEndpointWithoutATurn, so that it needs no scan and no second claim.
func TestAClaimTakesOneRecentMessageOfEachEndpointWithoutATurn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		order      Order
		took, left string
	}{
		"one of each":       {Order{Most: 9, Recent: 9}, "a-1 b-1 full-1", "https://a.test"},
		"not of a full one": {Order{Most: 9, Recent: 9, Except: []string{"https://full.test"}}, "a-1 b-1", "https://a.test https://full.test"},
		"none is allowed":   {Order{Most: 9}, "", "https://a.test https://b.test https://full.test"},
		"beside a turn":     {Order{Most: 9, Recent: 9, Turns: []Turn{{Endpoint: "https://a.test", Most: 9}}}, "a-1 a-2 b-1 full-1", ""},
		"within its maximum": {Order{Most: 1, Recent: 9, Turns: []Turn{{Endpoint: "https://a.test", Most: 9}},
			Except: []string{"https://full.test"}}, "b-1", "https://full.test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for _, runID := range []string{"a-1", "a-2", "b-1", "full-1"} {
				endpoint, _, _ := strings.Cut(runID, "-")
				r.writeTo("https://"+endpoint+".test/", runID)
			}
			r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, reason, since) VALUES ('https://paused.test', true, '', now())`)
			r.writeTo("https://paused.test/", "paused-1")
			if took, left := r.claimRecent(c.order); took != c.took || left != c.left {
				t.Errorf("the claim took %q and left %q, want %q and %q", took, left, c.took, c.left)
			}
		})
	}
}

func TestAClaimReadsWhatWasWrittenSinceTheLastSuccessfulOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool := r.NewPool(t, nil)
	c := r.claimerOn(pool, "one")
	began := c.since
	r.writeTo("https://a.test/", "run-1")
	pool.Close()
	if _, err := c.Claim(t.Context(), Order{Most: 9, Recent: 9}); err == nil || !strings.HasPrefix(err.Error(), "claim: ") {
		t.Fatalf("over a closed pool the claim returns %v, want an error that begins with claim", err)
	}
	if !c.since.Equal(began) {
		t.Error("after a failed claim the next one does not read from the same time")
	}
	c.db = Direct(r.Pool)
	claimed, err := c.Claim(t.Context(), Order{Most: 9, Recent: 9})
	if err != nil || len(claimed.Messages) != 1 || !c.since.After(began) {
		t.Errorf("%d messages claimed, and the next claim reads from %v, %v; want 1, and a later time", len(claimed.Messages), c.since, err)
	}
}

// TestAClaimLeavesTheRowOnItsPage: the update is HOT, so it writes no index entry.
func TestAClaimLeavesTheRowOnItsPage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 50, 0)
	pool := r.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 }) // a session sees its own statistics only
	claimed, err := r.claimerOn(pool, "one").Claim(t.Context(), Order{Most: 50, Turns: []Turn{{"a", longAgo, 50}}})
	if err != nil || len(claimed.Messages) != 50 {
		t.Fatalf("%d messages claimed, %v; want 50", len(claimed.Messages), err)
	}
	var updated, hot int
	if _, err := pool.Exec(t.Context(), `SELECT pg_stat_force_next_flush()`); err != nil {
		t.Fatal(err)
	}
	err = pool.QueryRow(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'due'`,
		r.Schema).Scan(&updated, &hot)
	if err != nil || updated != 50 || hot != 50 {
		t.Errorf("%d of %d updates stayed on their page, want 50 of 50: %v", hot, updated, err)
	}
}
