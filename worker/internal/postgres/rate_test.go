package postgres

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

const limited = "https://limited.test"

// limit makes messages due at an endpoint with a rate limit, whose rate was used up usedUp ago, by the database's clock.
func (r *rig) limit(messages int, rate string, usedUp time.Duration) {
	r.t.Helper()
	r.due(limited, messages, 3600)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, granted_at, reason) VALUES ($1, $2::text::double precision, now() - $3::interval, '')`,
		limited, rate, usedUp)
}

func (r *rig) usedUpTo() time.Time {
	r.t.Helper()
	return one[time.Time](r, `SELECT granted_at FROM outbox.endpoint`)
}

func (r *rig) claimLimited(most int) []Message {
	r.t.Helper()
	return r.claimOrder("w", Order{Most: most, Turns: []Turn{{limited, longAgo, most}}})
}

// TestClaimsAddUpToTheRate: the fraction of a request that one claim cannot take counts for the next.
func TestClaimsAddUpToTheRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate float64
		step time.Duration // how far the database's clock moves between two claims
	}{
		{15, 100 * time.Millisecond}, // one and a half messages per claim
		{1.5, 300 * time.Millisecond},
		{19, 100 * time.Millisecond},
		{3, 111 * time.Millisecond}, // a third of a message per claim
		{7, 250 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(c.rate, " per second, every ", c.step), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			const claims = 20
			r.limit(200, fmt.Sprint(c.rate), 0)
			began, taken := r.usedUpTo(), 0
			for range claims {
				r.exec(`UPDATE outbox.endpoint SET granted_at = granted_at - $1::interval`, c.step) // as if the database's clock moved
				taken += len(r.claimLimited(100))
			}
			// The database's clock also moves by itself a little.
			passed := claims*c.step + one[time.Time](r, `SELECT clock_timestamp()`).Sub(began)
			least, most := c.rate*(claims*c.step).Seconds(), c.rate*passed.Seconds()
			if float64(taken) < math.Floor(least) || float64(taken) > most {
				t.Errorf("%d messages were claimed in %v, want %v to %v", taken, passed, math.Floor(least), most)
			}
		})
	}
}

// TestARateGivesWhatIsLeftOfIt, but the requests of a second at most, or one, and counts those that were taken.
func TestARateGivesWhatIsLeftOfIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate   float64
		usedUp time.Duration
	}{
		{5, 300 * time.Millisecond}, {5, 700 * time.Millisecond}, {5, time.Hour}, {2.5, time.Hour}, {1.5, 900 * time.Millisecond},
		{1, time.Hour}, {3, time.Second}, {0.3, time.Hour}, {0.1, 11 * time.Second}, {0.001, 1001 * time.Second},
	} {
		t.Run(fmt.Sprint(c.rate, " per second, used up ", c.usedUp, " ago"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.limit(50, fmt.Sprint(c.rate), c.usedUp)
			before := r.usedUpTo()
			n := len(r.claimLimited(50))
			now := one[time.Time](r, `SELECT max(locked_until) - $1::interval FROM outbox.due`, lease) // the time of the claim
			left := math.Min(c.rate*now.Sub(before).Seconds(), math.Max(c.rate, 1))
			if n != int(left) {
				t.Fatalf("%d messages are claimed, want %d", n, int(left))
			}
			start := now.Add(-time.Duration(math.Max(1/c.rate, 1) * float64(time.Second)))
			if before.After(start) {
				start = before
			}
			want := start.Add(time.Duration(float64(n) / c.rate * float64(time.Second)))
			if got := r.usedUpTo(); got.Sub(want).Abs() > 10*time.Microsecond || got.After(now) {
				t.Errorf("the rate is used up to %v before the claim, want %v", now.Sub(got), now.Sub(want))
			}
		})
	}
}

// TestAClaimBeforeTheNextGrantChangesNothing, so that many claims do not delay the grant.
func TestAClaimBeforeTheNextGrantChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.limit(2, "0.001", 900*time.Second)
	before := r.rows()
	for range 3 {
		if n := len(r.claimLimited(9)); n != 0 {
			t.Errorf("%d messages are claimed before the next grant, want none", n)
		}
	}
	if got := r.rows(); got != before {
		t.Errorf("the claims changed rows, want none changed\nafter: %s\nbefore: %s", got, before)
	}
	r.exec(`UPDATE outbox.endpoint SET granted_at = granted_at - interval '100 s'`)
	if n := len(r.claimLimited(9)); n != 1 {
		t.Errorf("%d messages are claimed after 1000 seconds, want 1", n)
	}
}

// TestAClaimUsesUpTheRateOnlyForMessagesThatItTakes: not for those beyond its turn's maximum, and not for missing ones.
func TestAClaimUsesUpTheRateOnlyForMessagesThatItTakes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.limit(10, "1000", time.Hour)
	if n := len(r.claimLimited(4)); n != 4 {
		t.Errorf("%d messages are claimed, want the 4 that the turn allows", n)
	}
	now := one[time.Time](r, `SELECT max(locked_until) - $1::interval FROM outbox.due`, lease)
	if left := now.Sub(r.usedUpTo()); left != 996*time.Millisecond {
		t.Errorf("%v of a second's rate are left after 4 of 1000 requests, want 996 ms", left)
	}
	r.exec(`UPDATE outbox.due SET due_at = now() + interval '1 h'`)
	before := r.rows()
	r.claimLimited(9)
	if got := r.rows(); got != before {
		t.Errorf("a claim that took nothing changed rows\nafter: %s\nbefore: %s", got, before)
	}
}

// TestWorkersShareARate, also when they claim at the same time.
func TestWorkersShareARate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.limit(50, "0.001", 0)
	for range 10 {
		r.exec(`UPDATE outbox.endpoint SET granted_at = now() - interval '1001 s'`)
		if n := r.claimAtOnce(8, limited); n != 1 {
			t.Errorf("%d messages are claimed at once, want the one that the rate allows", n)
		}
	}
}

// TestAnInvalidRateStopsNoClaim: an operator may write to the table by hand.
func TestAnInvalidRateStopsNoClaim(t *testing.T) {
	t.Parallel()
	for rate, want := range map[string]int{"NaN": 3, "Infinity": 3, "1e300": 3, "1e-300": 1, "1e-13": 1} {
		t.Run(rate, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.exec(`ALTER TABLE outbox.endpoint DROP CONSTRAINT endpoint_rate_per_second`) // as in a schema of an older version
			r.limit(3, rate, time.Hour)
			r.due("https://other.test", 2, 0)
			for _, m := range r.claimOrder("w", Order{Most: 9, Turns: r.turns(9)}) {
				if m.Endpoint == limited && (m.Rate < 1e-3 || m.Rate > 1e6 || math.IsNaN(m.Rate)) {
					t.Errorf("the claim returns the rate %v, want one from 1e-3 to 1e6", m.Rate)
				}
			}
			got := [2]int{
				r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'w' AND endpoint = $1`, limited),
				r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'w' AND endpoint <> $1`, limited),
			}
			if got != [2]int{want, 2} {
				t.Errorf("%v messages were claimed of the endpoint and of another one, want %d and 2", got, want)
			}
		})
	}
}

// TestARateThatIsUsedUpInTheFutureGivesOneRequest, and then not more than the rate. The clock was set back, or somebody wrote
// the time by hand.
func TestARateThatIsUsedUpInTheFutureGivesOneRequest(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"now() + interval '1 h'", "'infinity'", "'200000-01-01'"} {
		for _, rate := range []string{"0.001", "0.3", "1", "3", "7", "1000"} {
			t.Run(at+" at "+rate, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.exec(`ALTER TABLE outbox.endpoint DROP CONSTRAINT endpoint_granted_at_range`) // as in a schema of an older version
				r.limit(2000, rate, 0)
				r.exec(`UPDATE outbox.endpoint SET granted_at = ` + at)
				r.due("https://other.test", 2, 0)
				if got := perEndpoint(r.claim("w")); got != "map[https://limited.test:1 https://other.test:2]" {
					t.Errorf("claimed %s, want one message of the limited endpoint and both of the other", got)
				}
				if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE granted_at > now()`); n != 0 {
					t.Error("the rate is still used up until a time in the future")
				}
			})
		}
	}
}

// TestAnEndpointWithARateLimitGivesMessagesInItsTurnOnly: a claim takes no recent message of it without a turn.
func TestAnEndpointWithARateLimitGivesMessagesInItsTurnOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo(limited, "run-1")
	r.writeTo(limited, "run-2")
	r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, granted_at, reason) VALUES ($1, 9, now() - interval '1 h', '')`, limited)
	if took, left := r.claimRecent(Order{Most: 9, Recent: 9}); took != "" || left != limited {
		t.Errorf("without a turn the claim took %q and left %q, want nothing taken, and the endpoint left", took, left)
	}
	if took, _ := r.claimRecent(Order{Most: 9, Turns: []Turn{{limited, longAgo, 9}}}); took != "run-1 run-2" {
		t.Errorf("with a turn the claim took %q, want both messages", took)
	}
}

// TestAnEndpointWhoseRateIsUsedUpIsLeftBehindOnce: otherwise one claim would follow the other without an end.
func TestAnEndpointWhoseRateIsUsedUpIsLeftBehindOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo(limited, "run-1")
	if err := r.store.Limit(t.Context(), limited, operator.Limits{RatePerSecond: 0.001}, ""); err != nil {
		t.Fatal(err)
	}
	if took, left := r.claimRecent(Order{Most: 9, Recent: 9}); took != "" || left != limited {
		t.Errorf("without a turn the claim took %q and left %q, want nothing taken, and the endpoint left", took, left)
	}
	if took, left := r.claimRecent(Order{Most: 9, Recent: 9, Turns: []Turn{{limited, longAgo, 9}}}); took != "" || left != "" {
		t.Errorf("with a turn the claim took %q and left %q, want nothing of both", took, left)
	}
}
