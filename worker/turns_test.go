package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// turns is the claim loop of a worker all of whose requests are answered at once.
type turns struct {
	*rig
	scheduler *schedule.Scheduler
	claimer   *postgres.Claimer
	now       time.Time
}

// newTurns scans once, and then begins a drain.
func (r *rig) newTurns(slots, perEndpoint int) *turns {
	r.t.Helper()
	now := time.Now()
	c := &turns{
		rig: r, now: now,
		scheduler: schedule.New(schedule.Config{
			MaxInFlight: slots, EndpointMaxInFlight: perEndpoint, PollInterval: time.Second, DrainTurn: time.Hour,
		}, now),
		claimer: postgres.NewClaimer(postgres.Direct(r.Pool), postgres.ClaimerConfig{Schema: r.Schema, Worker: "one", Lease: time.Minute, OpenAfter: 10}),
	}
	scan, err := postgres.NewScanner(postgres.Direct(r.Pool), r.Schema, nil).Full(r.t.Context(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	step := c.scheduler.NextScan(now)
	c.scheduler.Scanned(step.Scan, candidates(scan.Candidates), 0, now)
	c.scheduler.DrainBegan(now)
	return c
}

// claim makes the next claim, answers what it took, and returns how many messages each endpoint gave.
func (c *turns) claim() map[string]int {
	c.t.Helper()
	step := c.scheduler.NextClaim(c.now)
	for ; step.Do == schedule.WaitFor; step = c.scheduler.NextClaim(c.now) {
		c.now = step.Until
	}
	claimed, err := c.claimer.Claim(c.t.Context(), claimOrder(step.Order))
	if err != nil {
		c.t.Fatal(err)
	}
	start, _ := c.scheduler.Claimed(c.now, claimedMessages(claimed.Messages, c.now), candidates(claimed.Left))
	served := map[string]int{}
	for len(start) > 0 {
		m := start[0]
		start = start[1:]
		served[m.Endpoint]++
		a := schedule.Answer{Kind: schedule.Delivered, StartedAt: c.now, Duration: time.Hour}
		if next, more, _ := c.scheduler.Answered(m.Endpoint, a, c.now); more {
			start = append(start, next)
		}
	}
	return served
}

// TestAFloodingEndpointWaitsItsTurn, wherever it stands in the order of the endpoints.
func TestAFloodingEndpointWaitsItsTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, flood := range []string{"a", "m15", "z"} {
		r.exec(`TRUNCATE outbox.due`)
		r.due(flood, 5000, 3600) // due for longer than the others
		for i := range 20 {
			r.due(fmt.Sprintf("m%02d.small", i), 1, 0)
		}
		for _, slots := range []int{1, 8} {
			c, served, claims := r.newTurns(slots, min(slots, 2)), map[string]int{}, 0
			for ; len(served) < 21 && claims < 60; claims++ {
				for endpoint, n := range c.claim() {
					served[endpoint] += n
				}
			}
			// A full circle is the 20 small endpoints' messages and the flood's share: 22, or 21 one by one. The first claims of
			// eight take half: all endpoints are unproven then, and some slots are kept for new ones.
			if want := 22/slots + 3; claims > want {
				t.Errorf("flood at %q, %d at a time: all are served after %d claims, want %d at most", flood, slots, claims, want)
			}
			r.exec(`UPDATE outbox.due SET locked_by = NULL, locked_until = NULL`)
		}
	}
}

// TestEndpointsHaveEvenTurnsWhateverTheIDsOfTheirMessages: the ids decide in which order a claim returns messages.
func TestEndpointsHaveEvenTurnsWhateverTheIDsOfTheirMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, endpoint := range []string{"a", "B", "c", "é", "z"} { // collations order these names in different ways
		r.due(endpoint, 100, 0)
	}
	c, served := r.newTurns(2, 1), map[string]int{}
	const claims = 50
	for range claims {
		for endpoint, n := range c.claim() {
			served[endpoint] += n
		}
	}
	all := 0
	for _, n := range served {
		all += n
	}
	for endpoint, n := range served {
		if all < 2*claims || n < all/5-1 || n > all/5+1 {
			t.Errorf("%s was served %d of %d times, want a fifth", endpoint, n, all)
		}
	}
	if len(served) != 5 {
		t.Errorf("the endpoints served are %v, want all five", served)
	}
}
