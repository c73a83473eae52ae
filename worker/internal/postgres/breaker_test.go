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

// fail records a failure of each message that one claim takes of the failing endpoint, one batch each.
func (r *rig) fail(most int) (n int, changes []EndpointChange) {
	r.t.Helper()
	for _, m := range r.claimOrder("one", Order{Most: most, Turns: []Turn{{failing, longAgo, most}}}) {
		changes = append(changes, r.record("one", results(m)["failed"])...)
		n++
	}
	return n, changes
}

// endTheTime for which nothing is sent to an endpoint.
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
		t.Errorf("before there were enough it changed %+v", changes)
	}
	if n, changes := r.fail(1); n != 1 || len(changes) != 1 || changes[0].What != EndpointOpened ||
		changes[0].Reason != "failing: answered 500" || changes[0].OpenUntil == nil {
		t.Errorf("the last failure changed %+v", changes)
	}
	if got := r.openHours(); got < 0.79 || got > 1.21 {
		t.Errorf("it is open for %.2f h, want 1 h ±20 %%", got)
	}
	if turns := r.turns(1); len(turns) > 0 {
		t.Errorf("it is a candidate while it is open: %v", turns)
	}
	if n, _ := r.fail(1); n != 0 {
		t.Error("a message is claimed while it is open")
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
		t.Error("failures beside an answer were counted")
	}
	if changes := r.record("one", batch[4:]...); len(changes) > 0 {
		t.Errorf("it changed %+v", changes)
	}
	if e := r.endpoint(failing); e.Failures != openAfter-4 || *e.Reason != "failing: reset" {
		t.Errorf("it is remembered as %+v", e)
	}
}

func TestAnOpenCircuitBreakerIsProbedByASingleMessageAndOpenedForLonger(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 2*openAfter, 0)
	r.fail(openAfter)
	for i, want := range []float64{2, 3, 3} { // hours: doubled, then the most
		r.endTheTime()
		if n, changes := r.fail(9); n != 1 || len(changes) != 1 || changes[0].What != EndpointOpened {
			t.Errorf("probe %d took %d messages, and changed %+v", i, n, changes)
		}
		if got := r.openHours(); got < want*0.79 || got > want*1.21 {
			t.Errorf("after probe %d it is open for %.2f h, want %v h ±20 %%", i, got, want)
		}
	}
	r.endTheTime()
	probe := r.claimOne("one")
	if got := r.claim("two"); len(got) != 0 {
		t.Errorf("%d more claimed while the probe is under way", len(got))
	}
	changes := r.record("one", results(probe)["delivered"])
	if len(changes) != 1 || changes[0].What != EndpointClosed {
		t.Errorf("an answer changed %+v", changes)
	}
	if e := r.endpoint(failing); e.OpenUntil != nil || e.Failures != 0 {
		t.Errorf("after an answer it is open until %v, with %d failures", e.OpenUntil, e.Failures)
	}
	if n := len(r.claim("two")); n != openAfter-4 {
		t.Errorf("%d claimed after an answer, want all %d that were not tried yet", n, openAfter-4)
	}
}

// TestAProbeThatIsLostIsFollowedByAnother when its lease ends.
func TestAProbeThatIsLostIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 2, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, $2, '')`, failing, openAfter)
	r.claimOne("one")
	if n := r.count(`SELECT count(*) FROM outbox.endpoint e JOIN outbox.due d ON d.locked_until = e.open_until WHERE e.probing`); n != 1 {
		t.Error("the endpoint is not held back for the probe's lease")
	}
	r.endTheTime()
	r.claimOne("two")
}

// TestOnlyOneWorkerProbes, whoever comes at the same time.
func TestOnlyOneWorkerProbes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 50, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, $2, '')`, failing, openAfter)
	for range 10 {
		if n := r.claimAtOnce(8, failing); n != 1 {
			t.Errorf("%d messages probe it at once, want 1", n)
		}
		r.endTheTime()
	}
}

// claimAtOnce lets workers claim of one endpoint at the same time, and returns how many messages they got together.
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

// TestAnEndpointWithARateIsProbedToo: the grant of the rate and the probe change the same row.
func TestAnEndpointWithARateIsProbedToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 5, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, rate_per_second, granted_at, open_until, reason)
VALUES ($1, $2, 5, now() - interval '1 h', now() - interval '1 s', '')`, failing, openAfter)
	m := r.claimOne("one")
	if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE probing AND open_until > now() AND granted_at > now() - interval '1 min'`); n != 1 {
		t.Error("the probe and the rate that it used up are not both written down")
	}
	r.record("one", results(m)["delivered"])
	if e := r.endpoint(failing); e.Failures != 0 || *e.RatePerSecond != 5 {
		t.Errorf("after an answer it is remembered as %+v", e)
	}
}

func TestWhatSpeaksNotAgainstAnEndpointIsNotRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	names := []string{"delivered", "refused", "blocked", "released", "waiting"}
	for _, name := range names {
		r.writeTo("https://"+name+".test/hook", name)
	}
	for _, m := range r.claim("one") {
		if changes := r.record("one", results(m)[m.RunID]); len(changes) > 0 {
			t.Errorf("%s changed %+v", m.RunID, changes)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.endpoint`); n != 0 {
		t.Errorf("%d endpoints are remembered", n)
	}
}

// TestABlockedAttemptIsNoProofOfHealth: nothing was sent, so it does not close a circuit breaker either.
func TestABlockedAttemptIsNoProofOfHealth(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 1, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, 3, '')`, failing)
	r.record("one", results(r.claimOne("one"))["blocked"])
	if e := r.endpoint(failing); e.Failures != 3 {
		t.Errorf("it has %d failures now", e.Failures)
	}
}

// TestALaneThatIsGoneGivesOneMessageAtATime, without a pause between them, until one is accepted.
func TestALaneThatIsGoneGivesOneMessageAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(failing, 5, 0)
	m := r.claimOrder("one", Order{Most: 1, Turns: r.turns(1)})[0]
	changes := r.record("one", results(m)["gone"])
	if len(changes) != 1 || changes[0].What != EndpointGone || changes[0].OpenUntil != nil || changes[0].Reason != "gone: answered 410" {
		t.Errorf("it changed %+v", changes)
	}
	if n := r.count(`SELECT count(DISTINCT x.xmin::text) FROM (SELECT xmin FROM outbox.dead UNION ALL SELECT xmin FROM outbox.endpoint
UNION ALL SELECT xmin FROM outbox.attempt) x`); n != 1 {
		t.Errorf("death, health and attempt were written by %d transactions", n)
	}
	for range 2 {
		m := r.claimOne("one")
		if got := r.claim("two"); !m.Probe || len(got) != 0 {
			t.Errorf("%d more are claimed while one is tried (as a probe: %v)", len(got), m.Probe)
		}
		if changes := r.record("one", results(m)["gone"]); len(changes) != 0 {
			t.Errorf("the same again changed %+v", changes)
		}
	}
	r.record("one", results(r.claimOne("one"))["delivered"])
	if e := r.endpoint(failing); e.Failures != 0 || len(r.claim("one")) != 1 {
		t.Errorf("after one was accepted it is remembered as %+v", e)
	}
}

// TestAnEndpointIsHeldAsItAsked, also when something of it is remembered already, and the longer time holds.
func TestAnEndpointIsHeldAsItAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remembered string // failures, open_until
		hold       time.Duration
		minutes    int
	}{
		"nothing is remembered":  {"", 10 * time.Minute, 10},
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
				t.Errorf("it is not held for %d minutes, but remembered as %+v", c.minutes, r.endpoint(failing))
			}
		})
	}
}

// TestAnOperatorsPauseOutlivesAnswers: they come from before it.
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
			t.Errorf("%s changed %+v", name, changes)
		}
		if e := r.endpoint(failing); !e.Paused || *e.Reason != "maintenance" {
			t.Errorf("after %s it is remembered as %+v", name, e)
		}
	}
}

// TestAnEndpointThatChangesDuringAClaimGivesNothingToIt: the claim decided by a row that is no longer true.
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
			t.Errorf("%d claimed", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if state := one[string](r, `SELECT state FROM outbox.status`); state != string(outbox.StatePending) {
		t.Errorf("the message is %s", state)
	}
}
