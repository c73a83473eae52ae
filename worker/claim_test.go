package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// due makes n messages of an endpoint due, by SQL; the i-th of them has been so for ago + n - i seconds.
func (r *rig) due(endpoint string, n, ago int) {
	r.t.Helper()
	r.exec(`WITH m AS (
    INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint)
    SELECT gen_random_uuid(), $1 || '#' || i, 'succeeded', '{}', 0, $1, $1 FROM generate_series(1, $2::integer) i
    RETURNING id, endpoint, split_part(run_id, '#', 2)::integer AS i
)
INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT id, endpoint, now() - ($3 + $2 - i) * interval '1 s' FROM m`,
		endpoint, n, ago)
}

// take claims, and returns how many messages each endpoint gave.
func (r *rig) take(c *claims, n, share int, room map[string]int) map[string]int {
	r.t.Helper()
	messages, err := c.claim(r.t.Context(), n, share, room)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(messages) > n {
		r.t.Errorf("%d messages claimed, want at most %d", len(messages), n)
	}
	got := map[string]int{}
	for _, m := range messages {
		got[m.endpoint]++
		limit, busy := room[m.endpoint]
		if !busy {
			limit = share
		}
		if got[m.endpoint] > limit {
			r.t.Errorf("%s gave %d messages, want at most %d", m.endpoint, got[m.endpoint], limit)
		}
	}
	return got
}

// TestAFloodingEndpointWaitsItsTurn, wherever it stands in the order of the endpoints.
func TestAFloodingEndpointWaitsItsTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, flood := range []string{"a", "m15", "z"} {
		r.exec(`TRUNCATE outbox.due`)
		r.due(flood, 5000, 3600) // and longer so than the others
		for i := range 20 {
			r.due(fmt.Sprintf("m%02d.small", i), 1, 0)
		}
		for _, n := range []int{1, 8} {
			c, served := r.claimer("one"), map[string]int{}
			claims := 0
			for ; len(served) < 21 && claims < 30; claims++ {
				for endpoint, n := range r.take(c, n, 2, nil) {
					served[endpoint] += n
				}
			}
			// A full circle is 20 messages of the small and a share of the flood's: 22, or 21 one by one.
			if want := 22/n + 1; claims > want {
				t.Errorf("flood at %q, %d at a time: all are served after %d claims, want %d", flood, n, claims, want)
			}
			r.exec(`UPDATE outbox.due SET locked_by = NULL, locked_until = NULL`)
		}
	}
}

// TestTurnsAreEvenWhateverTheAgeOfTheMessages: ids, and with them the order of what a claim returns, decide nothing.
func TestTurnsAreEvenWhateverTheAgeOfTheMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, endpoint := range []string{"a", "B", "c", "é", "z"} { // an order that collations do not agree on
		r.due(endpoint, 100, 0)
	}
	c, served := r.claimer("one"), map[string]int{}
	const claims = 50
	for range claims {
		for endpoint, n := range r.take(c, 2, 1, nil) {
			served[endpoint] += n
		}
	}
	for endpoint, n := range served {
		if n != claims*2/5 {
			t.Errorf("%s was served %d times, want %d", endpoint, n, claims*2/5)
		}
	}
}

func TestAClaimTakesNoMoreThanTheRoomThatIsLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, endpoint := range []string{"a", "b", "c"} {
		r.due(endpoint, 10, 0)
	}
	room := map[string]int{"a": 0, "b": 1}
	got := r.take(r.claimer("one"), 100, 4, room)
	if want := (map[string]int{"b": 1, "c": 4}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

func TestAClaimPassesOverWhatOthersHold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 3, 0)
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		sql := inSchema(`SELECT FROM outbox.due ORDER BY due_at LIMIT 2 FOR UPDATE`, r.Schema)
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			return err
		}
		if got := r.take(r.claimer("one"), 10, 10, nil); got["a"] != 1 {
			t.Errorf("%d claimed while two of three are locked", got["a"])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.take(r.claimer("two"), 10, 10, nil); got["a"] != 2 {
		t.Errorf("%d claimed afterwards, want 2", got["a"])
	}
}

func TestAClaimPassesOverEndpointsThatArePausedOrHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, endpoint := range []string{"held", "held-once", "paused", "paused-and-held-once", "remembered", "unknown"} {
		r.due(endpoint, 2, 0)
	}
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, open_until, reason) VALUES
('held', false, now() + interval '1 h', ''), ('held-once', false, now() - interval '1 s', ''), ('paused', true, NULL, ''),
('paused-and-held-once', true, now() - interval '1 s', ''), ('remembered', false, NULL, '')`)
	got := r.take(r.claimer("one"), 100, 100, nil)
	if want := (map[string]int{"held-once": 2, "remembered": 2, "unknown": 2}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

func TestAClaimTakesTheLongestDueFirstAndNothingOfTheFuture(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("a", 5, -3) // due 1, 0, -1, -2 and -3 s ago, of which the last are still to come
	r.exec(`UPDATE outbox.due d SET due_at = due_at + interval '1 h' FROM outbox.message m
WHERE m.id = d.message_id AND m.run_id IN ('a#3', 'a#4', 'a#5')`)
	c := r.claimer("one")
	var order []string
	for range 3 {
		messages, err := c.claim(t.Context(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			order = append(order, m.runID)
		}
	}
	if got := strings.Join(order, " "); got != "a#1 a#2" {
		t.Errorf("claimed %s, want a#1 a#2", got)
	}
}

func TestAClaimBringsAllThatARequestNeeds(t *testing.T) {
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
		if string(m.body) != bodies[m.runID] || m.body == nil || m.url != "https://a.test/hook?x=y" || m.endpoint != "https://a.test" || m.attempt != 1 || m.attemptsBefore != 0 {
			t.Errorf("%s: %+v", m.runID, m)
		}
		if forwards := m.runID == "failed"; (m.headers != nil) != forwards || (m.options != nil) != forwards {
			t.Errorf("%s: headers %s, options %s", m.runID, m.headers, m.options)
		}
		delete(bodies, m.runID)
	}
	if len(bodies) > 0 {
		t.Errorf("not claimed: %v", bodies)
	}
}

// fresh is what a claim takes, and leaves, of these endpoints' messages that were written since the last one.
func (r *rig) fresh(o order) (took, news string) {
	r.t.Helper()
	c := r.claimer("one")
	c.since = time.Now().Add(-time.Minute)
	messages, left, err := c.claimer.claim(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	var of, at []string
	for _, m := range messages {
		of = append(of, m.runID)
	}
	for _, f := range left {
		at = append(at, f.Endpoint)
	}
	slices.Sort(of)
	slices.Sort(at)
	return strings.Join(of, " "), strings.Join(at, " ")
}

func TestAClaimBringsNewsOfWhatItDidNotTake(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://asked.test/", "run-1")
	r.writeTo("https://later.test/", "run-2")
	r.writeTo("https://new.test/", "run-3")
	took, news := r.fresh(order{most: 9, turns: []turn{
		{endpoint: "https://asked.test", most: 1}, {endpoint: "https://later.test", most: 1, from: time.Now().Add(time.Hour)},
	}})
	if took != "run-1" || news != "https://later.test https://new.test" {
		t.Errorf("it took %s, with news of %s", took, news)
	}
}

// TestAClaimTakesAMessageOfAnEndpointThatItWasNotAskedFor: one that something was written for since the last claim, which
// so needs no look, and no second claim.
func TestAClaimTakesAMessageOfAnEndpointThatItWasNotAskedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		order      order
		took, news string
	}{
		"one of each":          {order{most: 9, fresh: 9}, "a-1 b-1 full-1", "https://a.test"},
		"not without room":     {order{most: 9, fresh: 9, except: []string{"https://full.test"}}, "a-1 b-1", "https://a.test https://full.test"},
		"none in a crowd":      {order{most: 9}, "", "https://a.test https://b.test https://full.test"},
		"beside one with more": {order{most: 9, fresh: 9, turns: []turn{{endpoint: "https://a.test", most: 9}}}, "a-1 a-2 b-1 full-1", ""},
		"not over the most": {order{most: 1, fresh: 9, turns: []turn{{endpoint: "https://a.test", most: 9}},
			except: []string{"https://full.test"}}, "b-1", "https://full.test"},
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
			if took, news := r.fresh(c.order); took != c.took || news != c.news {
				t.Errorf("it took %q, with news of %q; want %q, %q", took, news, c.took, c.news)
			}
		})
	}
}

// TestAnEndpointWithARateWaitsForItsTurn: one message taken unasked would use up what its rate has left.
func TestAnEndpointWithARateWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://a.test/", "run-1")
	r.writeTo("https://a.test/", "run-2")
	r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, granted_at, reason, since)
VALUES ('https://a.test', 9, now() - interval '1 h', '', now())`)
	if took, news := r.fresh(order{most: 9, fresh: 9}); took != "" || news != "https://a.test" {
		t.Errorf("it took %q, with news of %q", took, news)
	}
	if took, _ := r.fresh(order{most: 9, turns: []turn{{endpoint: "https://a.test", most: 9}}}); took != "run-1 run-2" {
		t.Errorf("asked for it, it took %q, want both", took)
	}
}

func TestAnEndpointAtItsRateIsNoNewsTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://a.test/", "run-1")
	r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, granted_at, reason, since) VALUES ('https://a.test', 1, now(), '', now())`)
	if took, news := r.fresh(order{most: 9, fresh: 9}); took != "" || news != "https://a.test" {
		t.Errorf("it took %q, with news of %q", took, news)
	}
	if took, news := r.fresh(order{most: 9, fresh: 9, turns: []turn{{endpoint: "https://a.test", most: 9}}}); took != "" || news != "" {
		t.Errorf("asked for it, it took %q, with news of %q, which the next claim would follow in a circle", took, news)
	}
}
