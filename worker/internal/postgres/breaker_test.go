package postgres

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

const failing = "https://failing.test"

// fail makes one claim at the failing endpoint, and records a failure of each of its messages, each in a batch of its own.
func (r *rig) fail(most int) (n int, changes []EndpointChange) {
	r.t.Helper()
	for _, m := range r.claimOrder("one", Order{Most: most, Turns: []Turn{{failing, longAgo, most}}}) {
		changes = append(changes, r.record("one", results(m)["failed"])...)
		n++
	}
	return n, changes
}

// endTheTime makes an open circuit breaker half-open.
func (r *rig) endTheTime() {
	r.t.Helper()
	r.exec(`UPDATE outbox.endpoint SET open_until = now()`)
}

func (r *rig) openHours() float64 {
	r.t.Helper()
	return one[float64](r, `SELECT extract(epoch FROM open_until - now()) / 3600 FROM outbox.endpoint`)
}

func TestFailuresInARowOpenTheCircuitBreaker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 2*openAfter, 0)
	if _, changes := r.fail(openAfter - 1); len(changes) > 0 {
		t.Errorf("before the last failure the record changed %+v, want nothing", changes)
	}
	if n, changes := r.fail(1); n != 1 || len(changes) != 1 || changes[0].What != EndpointOpened ||
		changes[0].Reason != "failing: answered 500" || changes[0].OpenUntil == nil {
		t.Errorf("the last failure changed %+v, want the circuit breaker opened", changes)
	}
	if got := r.openHours(); got < 0.79 || got > 1.21 {
		t.Errorf("the circuit breaker is open for %.2f h, want 1 h ±20 %%", got)
	}
	if turns := r.turns(1); len(turns) > 0 {
		t.Errorf("while its circuit breaker is open, the endpoint is a candidate: %v; want none", turns)
	}
	if n, _ := r.fail(1); n != 0 {
		t.Errorf("%d messages are claimed while the circuit breaker is open, want none", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE attempt > 0`); n != openAfter {
		t.Errorf("%d messages were tried, want %d", n, openAfter)
	}
}

// TestABatchOfFailuresCountsEachOfThem, unless an answer is among them.
func TestABatchOfFailuresCountsEachOfThem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, openAfter, 0)
	var batch []Result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)["reset"])
	}
	mixed := append([]Result{}, batch[:4]...)
	mixed[0] = results(Message{ID: mixed[0].ID, Endpoint: failing, Attempt: 1})["refused"]
	r.record("one", mixed...)
	if n := r.count(`SELECT count(*) FROM outbox.endpoint`); n != 0 {
		t.Errorf("%d endpoints have a row, want none: a failure in a batch with an answer does not count", n)
	}
	if changes := r.record("one", batch[4:]...); len(changes) > 0 {
		t.Errorf("the record changed %+v, want nothing", changes)
	}
	if e := r.endpoint(failing); e.Failures != openAfter-4 || *e.Reason != "failing: reset" {
		t.Errorf("the endpoint's row is %+v, want its failures counted", e)
	}
}

func TestAnOpenCircuitBreakerIsProbedByOneMessageAtGrowingIntervals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 2*openAfter, 0)
	r.fail(openAfter)
	for i, want := range []float64{2, 3, 3} { // hours: the time doubles up to its maximum
		r.endTheTime()
		if n, changes := r.fail(9); n != 1 || len(changes) != 1 || changes[0].What != EndpointOpened {
			t.Errorf("probe %d took %d messages and changed %+v, want 1 and the circuit breaker opened", i, n, changes)
		}
		if got := r.openHours(); got < want*0.79 || got > want*1.21 {
			t.Errorf("after probe %d the circuit breaker is open for %.2f h, want %v h ±20 %%", i, got, want)
		}
	}
	r.endTheTime()
	probe := r.claimOne("one")
	if got := r.claim("two"); len(got) != 0 {
		t.Errorf("%d more messages are claimed while the probe is under way, want none", len(got))
	}
	changes := r.record("one", results(probe)["delivered"])
	if len(changes) != 1 || changes[0].What != EndpointClosed {
		t.Errorf("an answer changed %+v, want the circuit breaker closed", changes)
	}
	if e := r.endpoint(failing); e.OpenUntil != nil || e.Failures != 0 {
		t.Errorf("after an answer the circuit breaker is open until %v, with %d failures; want it closed", e.OpenUntil, e.Failures)
	}
	if n := len(r.claim("two")); n != openAfter-4 {
		t.Errorf("%d messages are claimed after an answer, want all %d that were not tried yet", n, openAfter-4)
	}
}

// TestAfterALostProbeComesAnother when the lost one's lease ends.
func TestAfterALostProbeComesAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 2, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, $2, '')`, failing, openAfter)
	r.claimOne("one")
	if n := r.count(`SELECT count(*) FROM outbox.endpoint e JOIN outbox.due d ON d.locked_until = e.open_until WHERE e.probing`); n != 1 {
		t.Errorf("%d endpoints are held back until the probe's lease ends, want 1", n)
	}
	r.endTheTime()
	r.claimOne("two")
}

// TestOnlyOneWorkerProbes, though several claim at the same time.
func TestOnlyOneWorkerProbes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 50, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, $2, '')`, failing, openAfter)
	for range 10 {
		if n := r.claimAtOnce(8, failing); n != 1 {
			t.Errorf("%d messages probe the endpoint at once, want 1", n)
		}
		r.endTheTime()
	}
}

// claimAtOnce makes workers claim from one endpoint at the same time, and returns how many messages they got together.
func (r *rig) claimAtOnce(workers int, endpoint string) (n int) {
	r.t.Helper()
	took := make([]int, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			claimed, err := r.claimer("w").Claim(r.t.Context(), Order{Most: 9, Turns: []Turn{{endpoint, longAgo, 9}}})
			if err != nil {
				r.t.Error(err)
			}
			took[i] = len(claimed.Messages)
		})
	}
	all.Wait()
	for _, t := range took {
		n += t
	}
	return n
}

// TestAnEndpointWithARateLimitIsProbed: the grant of the rate and the probe change the same row.
func TestAnEndpointWithARateLimitIsProbed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 5, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, rate_per_second, granted_at, open_until, reason)
VALUES ($1, $2, 5, now() - interval '1 h', now() - interval '1 s', '')`, failing, openAfter)
	m := r.claimOne("one")
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE probing AND open_until > now() AND granted_at > now() - interval '1 min'`); n != 1 {
		t.Errorf("%d rows hold both the probe and the grant of the rate, want 1", n)
	}
	r.record("one", results(m)["delivered"])
	if e := r.endpoint(failing); e.Failures != 0 || *e.RatePerSecond != 5 {
		t.Errorf("after an answer the endpoint's row is %+v, want no failures, and its rate", e)
	}
}

func TestResultsThatAreNoFailureLeaveNoRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	names := []string{"delivered", "refused", "blocked", "released", "waiting"}
	for _, name := range names {
		r.writeTo("https://"+name+".test/hook", name)
	}
	for _, m := range r.claim("one") {
		if changes := r.record("one", results(m)[m.RunID]); len(changes) > 0 {
			t.Errorf("%s changed %+v, want nothing", m.RunID, changes)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.endpoint`); n != 0 {
		t.Errorf("%d endpoints have a row, want none", n)
	}
}

// TestABlockedAttemptDoesNotCloseACircuitBreaker: nothing was sent, so it says nothing about the endpoint.
func TestABlockedAttemptDoesNotCloseACircuitBreaker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 1, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, 3, '')`, failing)
	r.record("one", results(r.claimOne("one"))["blocked"])
	if e := r.endpoint(failing); e.Failures != 3 {
		t.Errorf("the endpoint has %d failures, want 3 as before", e.Failures)
	}
}

// TestALaneThatIsGoneGivesOneMessageAtATime, without waits between them, until one is accepted.
func TestALaneThatIsGoneGivesOneMessageAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 5, 0)
	m := r.claimOrder("one", Order{Most: 1, Turns: r.turns(1)})[0]
	changes := r.record("one", results(m)["gone"])
	if len(changes) != 1 || changes[0].What != EndpointGone || changes[0].OpenUntil != nil || changes[0].Reason != "gone: answered 410" {
		t.Errorf("the record changed %+v, want the lane gone", changes)
	}
	if n := r.count(`SELECT count(DISTINCT x.xmin::text) FROM (SELECT xmin FROM outbox.dead UNION ALL SELECT xmin FROM outbox.endpoint
UNION ALL SELECT xmin FROM outbox.attempt) x`); n != 1 {
		t.Errorf("the dead row, the lane's row and the attempt were written by %d transactions, want 1", n)
	}
	for range 2 {
		m := r.claimOne("one")
		if got := r.claim("two"); !m.Probe || len(got) != 0 {
			t.Errorf("%d more messages are claimed while one is tried (as a probe: %v), want none", len(got), m.Probe)
		}
		if changes := r.record("one", results(m)["gone"]); len(changes) != 0 {
			t.Errorf("another 410 changed %+v, want nothing", changes)
		}
	}
	r.record("one", results(r.claimOne("one"))["delivered"])
	if e := r.endpoint(failing); e.Failures != 0 || len(r.claim("one")) != 1 {
		t.Errorf("after one message was accepted the lane's row is %+v, want no failures and the next message claimed", e)
	}
}

// TestRetryAfterHoldsAnEndpointWhateverItsRowSays: of two times the longer one counts.
func TestRetryAfterHoldsAnEndpointWhateverItsRowSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remembered string // failures, open_until
		hold       time.Duration
		minutes    int
	}{
		"there is no row":        {"", 10 * time.Minute, 10},
		"it failed before":       {"1, NULL", 10 * time.Minute, 10},
		"it was held before":     {"0, now() - interval '1 s'", 10 * time.Minute, 10},
		"it is held for longer":  {"0, now() + interval '20 min'", 10 * time.Minute, 20},
		"it is held for shorter": {"0, now() + interval '5 min'", 10 * time.Minute, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.due(failing, 1, 0)
			m := r.claimOne("one")
			if c.remembered != "" {
				r.exec(`INSERT INTO outbox.endpoint (endpoint, reason, failures, open_until) VALUES ($1, '', `+c.remembered+`)`, failing)
			}
			x := results(m)["retried"]
			x.Says[0].Hold = c.hold
			r.record("one", x)
			if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE open_until BETWEEN now() + ($1 - 1) * interval '1 min' AND now() + $1 * interval '1 min'
AND failures = 0 AND NOT probing`, c.minutes); n != 1 {
				t.Errorf("the endpoint is not held for %d minutes; its row is %+v", c.minutes, r.endpoint(failing))
			}
		})
	}
}

// TestAnOperatorsPauseOutlivesAnswers to requests that began before the pause.
func TestAnOperatorsPauseOutlivesAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.writeTo(failing+"/hook", "run")
	}
	messages := r.claim("one")
	if err := r.store.Pause(t.Context(), failing, "maintenance"); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"failed", "retried", "delivered"} {
		if changes := r.record("one", results(messages[i])[name]); len(changes) > 0 && changes[0].What == EndpointPaused {
			t.Errorf("%s changed %+v, want no pause", name, changes)
		}
		if e := r.endpoint(failing); !e.Paused || *e.Reason != "maintenance" {
			t.Errorf("after %s the endpoint's row is %+v, want the operator's pause", name, e)
		}
	}
}

// TestAnEndpointThatChangesDuringAClaimGivesNothingToIt: the claim has read an older state of the endpoint's row.
func TestAnEndpointThatChangesDuringAClaimGivesNothingToIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 1, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, $2, '')`, failing, openAfter)
	turns := r.turns(1)
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), sqlschema.In(`UPDATE outbox.endpoint SET paused = true`, r.Schema)); err != nil {
			return err
		}
		if n := len(r.claimOrder("one", Order{Most: 1, Turns: turns})); n != 0 {
			t.Errorf("%d messages are claimed, want none", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if state := one[string](r, `SELECT state FROM outbox.status`); state != string(outbox.StatePending) {
		t.Errorf("the message is %s, want pending", state)
	}
}
