package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recording"
)

// running is a recorder that runs, of a worker that exists only by its name.
type running struct {
	*recording.Recorder
	rig   *rig
	lines *logLines
	ended chan struct{}
}

// record starts a recorder. It is stopped when the test ends, or by stop.
func (r *rig) record(ctx context.Context) *running {
	r.t.Helper()
	lines := &logLines{}
	logger := slog.New(slog.NewTextHandler(lines, nil))
	x := &running{rig: r, lines: lines, ended: make(chan struct{}), Recorder: recording.New(
		postgres.NewRecorder(postgres.Direct(r.Pool), postgres.RecorderConfig{
			Schema: r.Schema, Worker: "one", OpenAfter: 10, OpenFor: time.Hour, OpenForMax: time.Hour,
		}), outage.New(logger, time.Second, outage.Faults{}).Part("test"), logger, 4*recording.BatchMax, nil)}
	go func() {
		defer close(x.ended)
		x.Run(ctx)
	}()
	return x
}

func (x *running) stop() {
	x.rig.t.Helper()
	x.Close()
	select {
	case <-x.ended:
	case <-time.After(testPatience):
		x.rig.t.Error("the recorder does not stop")
	}
}

// claimed makes n messages of each endpoint due and claims them. It returns a result of one kind for each.
func (r *rig) claimed(kind string, n int, endpoints ...string) (all []postgres.Result) {
	r.t.Helper()
	var turns []postgres.Turn
	slices.Sort(endpoints)
	for _, e := range endpoints {
		r.due(e, n, 0)
		turns = append(turns, postgres.Turn{Endpoint: e, Most: n})
	}
	claimer := postgres.NewClaimer(postgres.Direct(r.Pool), postgres.ClaimerConfig{Schema: r.Schema, Worker: "one", Lease: time.Hour, OpenAfter: 10})
	claimed, err := claimer.Claim(r.t.Context(), postgres.Order{Most: n * len(endpoints), Turns: turns})
	rows := claimed.Messages
	if err != nil || len(rows) != n*len(endpoints) {
		r.t.Fatalf("%d messages claimed: %v", len(rows), err)
	}
	for i := range rows {
		x, _ := modelResult(&rows[i], kind)
		all = append(all, x)
	}
	return all
}

func (x *running) hand(results ...postgres.Result) {
	for _, result := range results {
		x.In() <- result
	}
}

func (x *running) awaitLeased(what string, n int) {
	x.rig.t.Helper()
	x.rig.await(what, func() bool { return x.rig.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one'`) == n })
}

// TestALockThatSomebodyForgotHoldsNoOtherAnswer, whichever row it is on, and for as long as it lasts; and the answer that
// it holds is recorded when it is gone.
func TestALockThatSomebodyForgotHoldsNoOtherAnswer(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		lock, kind string
		held       int
	}{
		"a due row":                {`SELECT FROM outbox.due WHERE message_id = (SELECT min(message_id::text)::uuid FROM outbox.due) FOR UPDATE`, "delivered", 1},
		"an endpoint that answers": {`SELECT FROM outbox.endpoint WHERE endpoint = 'https://e3.test' FOR UPDATE`, "delivered", 0},
		"an endpoint that fails":   {`SELECT FROM outbox.endpoint WHERE endpoint = 'https://e3.test' FOR UPDATE`, "failed", 0},
		"an endpoint that is held": {`SELECT FROM outbox.endpoint WHERE endpoint = 'https://e3.test' FOR UPDATE`, "retried", 20},
		"a new endpoint":           {`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://new.test', '')`, "retried", 20},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			results := r.claimed(c.kind, 20, "https://e1.test", "https://e2.test", "https://e3.test", "https://new.test")
			r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) SELECT 'https://e' || i || '.test', 2, '' FROM generate_series(1, 3) i`)
			release := faulty.Hold(t, r.Pool, inSchema(c.lock, r.Schema))
			x := r.record(t.Context())
			x.hand(results...)
			x.awaitLeased("all but what is locked is recorded", c.held)
			x.hand(r.claimed("delivered", 100, "https://e4.test")...)
			x.awaitLeased("what came later is recorded", c.held)
			release()
			x.awaitLeased("what was locked is recorded, too", 0)
			x.stop()
			if n := x.lines.count("hold locks"); n != min(c.held, 1) {
				t.Errorf("%d lines of the log say that answers wait", n)
			}
			if n := x.lines.count("held_by_pids=[]"); n > 0 && what != "a new endpoint" { // a row that nobody sees yet
				t.Error("the log does not say who holds the row")
			}
			if x.lines.count("cannot be used") > 0 {
				t.Error("it takes a lock for an outage")
			}
		})
	}
}

// TestHeldAnswersAreTriedALastTimeAtTheStop, and named in the log when that is in vain.
func TestHeldAnswersAreTriedALastTimeAtTheStop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	results := r.claimed("delivered", 2, "https://a.test")
	const lock = `SELECT FROM outbox.due WHERE message_id = $1 FOR UPDATE`
	release := faulty.Hold(t, r.Pool, inSchema(lock, r.Schema), results[0].ID)
	faulty.Hold(t, r.Pool, inSchema(lock, r.Schema), results[1].ID)
	x := r.record(t.Context())
	x.hand(results...)
	r.await("both are held", func() bool { return x.lines.count("hold locks") == 1 })
	release()
	x.stop()
	if n := r.count(`SELECT count(*) FROM outbox.due`); n != 1 {
		t.Errorf("%d are due, want the one that is still locked", n)
	}
	if n := x.Unwritten(); n != 1 { // the stop tells of it
		t.Errorf("%d answers count as given up, want 1", n)
	}
}

// TestTooManyHeldAnswersGiveUpTheOldest, as long as others are recorded.
func TestTooManyHeldAnswersGiveUpTheOldest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	results := r.claimed("delivered", recording.HeldMax+10, "https://a.test")
	faulty.Hold(t, r.Pool, inSchema(`SELECT FROM outbox.due FOR UPDATE`, r.Schema))
	other := r.claimed("delivered", 1, "https://b.test")
	x := r.record(t.Context())
	x.hand(results[:recording.HeldMax]...)
	x.hand(other...)
	r.await("the other is recorded", func() bool { return r.count(`SELECT count(*) FROM outbox.attempt`) == 1 })
	x.hand(results[recording.HeldMax:]...)
	r.await("the oldest are given up", func() bool { return x.lines.count("answers wait for the database") > 0 })
	x.stop()
}

// TestADatabaseThatRefusesEverythingIsWaitedFor: the answers stay where they are, and keep further requests from beginning.
func TestADatabaseThatRefusesEverythingIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const more = 3 * recording.BatchMax
	results := r.claimed("delivered", recording.HeldMax+more, "https://a.test")
	r.refuse("attempt", "INSERT", "true", "P0001")
	x := r.record(t.Context())
	x.hand(results...)
	r.await("the list is full", func() bool { return len(x.In()) <= more })
	r.exec(`DROP TRIGGER refuse ON outbox.attempt`)
	x.awaitLeased("all are recorded", 0)
	x.stop()
	if x.lines.count("delivered again") > 0 {
		t.Error("answers are lost")
	}
	if n := r.count(`SELECT count(*) FROM outbox.dead`); n > 0 {
		t.Errorf("%d are dead", n)
	}
}

// refuse makes a trigger that refuses rows of a table.
func (r *rig) refuse(table, on, when, sqlstate string) {
	r.t.Helper()
	r.exec(fmt.Sprintf(`CREATE FUNCTION outbox.refuse_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no: %%', NEW USING ERRCODE = '%[4]s'; END $$;
CREATE TRIGGER refuse BEFORE %[2]s ON outbox.%[1]s FOR EACH ROW WHEN (%[3]s) EXECUTE FUNCTION outbox.refuse_%[1]s()`, table, on, when, sqlstate))
}

// TestOneAnswerThatTheDatabaseRefusesIsSetAside: with what can be kept of it, or as poison, and all others are recorded.
func TestOneAnswerThatTheDatabaseRefusesIsSetAside(t *testing.T) {
	t.Parallel()
	const secret = "what the receiver said"
	for what, c := range map[string]struct {
		table, on, when, sqlstate string
		kind                      string
		want                      outbox.State
		says                      string // in the log
	}{
		"a text, by a trigger": {"attempt", "INSERT", `NEW.response = '` + secret + `'`, "P0001", "delivered", outbox.StateDelivered, "without its texts"},
		"a text, by a rule":    {"attempt", "INSERT", `NEW.response = '` + secret + `'`, "23514", "delivered", outbox.StateDelivered, "without its texts"},
		"an attempt":           {"attempt", "INSERT", `NEW.duration_ms = 77777`, "P0001", "delivered", outbox.StateDead, "is dead"},
		"a missing privilege":  {"attempt", "INSERT", `NEW.duration_ms = 77777`, "42501", "failed", outbox.StateDead, "is dead"},
		"a broken extension":   {"attempt", "INSERT", `NEW.duration_ms = 77777`, "XX000", "failed", outbox.StateDead, "is dead"},
		"an endpoint": {"endpoint", "INSERT OR UPDATE", `NEW.endpoint = 'https://bad.test' AND NEW.failures > 0`, "23514", "failed",
			outbox.StateRetrying, "without its endpoint's change"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.refuse(c.table, c.on, c.when, c.sqlstate)
			bad := r.claimed(c.kind, 1, "https://bad.test")[0]
			bad.Response, bad.Duration = secret, 77777*time.Millisecond
			good := r.claimed("delivered", 300, "https://good.test")
			x := r.record(t.Context())
			x.hand(slices.Insert(good, 150, bad)...)
			x.awaitLeased("all are recorded", 0)
			x.stop()
			d := r.state(bad.ID)
			if d.State != c.want {
				t.Errorf("it is %s, want %s", d.State, c.want)
			}
			if c.want == outbox.StateDead && (text(d.DeadReason) != "poison" || !strings.Contains(text(d.DeadError), c.sqlstate)) {
				t.Errorf("it is dead for %s: %s", text(d.DeadReason), text(d.DeadError))
			}
			if n := x.lines.count(c.says); n != 1 {
				t.Errorf("%d lines of the log say so", n)
			}
			if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != 300+map[bool]int{true: 0, false: 1}[c.want == outbox.StateDead] {
				t.Errorf("%d attempts are on record", n)
			}
			if paused := r.count(`SELECT count(*) FROM outbox.endpoint WHERE paused AND reason LIKE '%' || $1 || '%'`, c.sqlstate); (paused == 1) != (c.table == "endpoint") {
				t.Errorf("%d endpoints are paused for it", paused)
			}
			if n := r.count(`SELECT count(*) FROM outbox.dead WHERE error LIKE '%' || $1 || '%'`, secret); n > 0 {
				t.Error("the reason of the death holds what the row held")
			}
		})
	}
}

// TestAMoveThatTheDatabaseRefusesKillsNoMessage: nothing was sent for it, so it is as good as before when its lease ends.
func TestAMoveThatTheDatabaseRefusesKillsNoMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refuse("due", "UPDATE", `NEW.endpoint LIKE '% #%'`, "23514")
	bad := r.claimed("moved", 1, "https://bad.test")[0]
	good := r.claimed("delivered", 30, "https://good.test")
	x := r.record(t.Context())
	x.hand(slices.Insert(good, 15, bad)...)
	x.awaitLeased("all others are recorded", 1)
	r.await("the log says so", func() bool { return x.lines.count("an answer is not recorded") == 1 })
	x.stop()
	if d := r.state(bad.ID); d.State != outbox.StateDelivering || len(d.AttemptList) != 0 {
		t.Errorf("it is %s after %d attempts, want %s until its lease ends", d.State, len(d.AttemptList), outbox.StateDelivering)
	}
}

// TestARefusalThatPassesPausesNoEndpoint: a trigger refuses an attempt until its answer is tried without its endpoint's
// change. It is then not the endpoint's row that is at fault.
func TestARefusalThatPassesPausesNoEndpoint(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"delivered", "failed"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.exec(`CREATE SEQUENCE outbox.tries`) // counts across what is rolled back
			r.refuse("attempt", "INSERT", `nextval('outbox.tries') <= 3`, "23514")
			x := r.record(t.Context())
			x.hand(r.claimed(kind, 1, "https://a.test")...)
			x.awaitLeased("it is recorded", 0)
			x.stop()
			if n := x.lines.count("without its endpoint's change"); n != 1 {
				t.Errorf("%d lines of the log tell of it", n)
			}
			if n := r.count(`SELECT count(*) FROM outbox.endpoint WHERE paused`); n > 0 {
				t.Error("the endpoint is paused")
			}
		})
	}
}

// TestADatabaseThatRefusesEverythingMakesNothingPoison: a trigger that closes the outbox for a while.
func TestADatabaseThatRefusesEverythingMakesNothingPoison(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refuse("attempt", "INSERT", "true", "P0001")
	x := r.record(t.Context())
	x.hand(r.claimed("delivered", 50, "https://a.test")...)
	r.await("they are held", func() bool { return x.lines.count("the database refuses them") > 0 })
	x.hand(r.claimed("delivered", 50, "https://b.test")...)
	r.exec(`DROP TRIGGER refuse ON outbox.attempt`)
	x.awaitLeased("all are recorded", 0)
	x.stop()
	if n := r.count(`SELECT count(*) FROM outbox.dead`); n > 0 {
		t.Errorf("%d are dead", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class = 'delivered'`); n != 100 {
		t.Errorf("%d attempts are on record", n)
	}
}

// TestATransactionThatIsSacrificedToOthersIsMadeAgain as it was, and no outage: a deadlock, or one that cannot be serialised.
func TestATransactionThatIsSacrificedToOthersIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, sqlstate := range []string{"40P01", "40001"} {
		t.Run(sqlstate, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.exec(`CREATE SEQUENCE outbox.tries`) // counts across what is rolled back
			r.refuse("attempt", "INSERT", `nextval('outbox.tries') <= 3`, sqlstate)
			x := r.record(t.Context())
			x.hand(r.claimed("delivered", 1, "https://a.test")...)
			x.awaitLeased("it is recorded", 0)
			x.stop()
			if text := x.lines.count("level=WARN") + x.lines.count("level=ERROR"); text > 0 {
				t.Error("the log says that something is wrong")
			}
		})
	}
}
