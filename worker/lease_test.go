package worker

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// claims are those of a worker that exists only by its name: each knows what a full look finds.
type claims struct {
	*claimer
	looker *looker
	known  *known
}

func (r *rig) claimer(worker string) *claims {
	return &claims{
		claimer: &claimer{
			pool: r.Pool, sql: inSchema(claimSQL, r.Schema), worker: worker, lease: time.Minute, openAfter: Config{}.WithDefaults().OpenAfter, since: time.Now(),
		},
		looker: newLooker(r.Pool, r.Schema), known: newKnown(),
	}
}

// claim looks anew, and asks every endpoint for its room, or a share where none is set, from the cursor on.
func (c *claims) claim(ctx context.Context, n, share int, room map[string]int) ([]message, error) {
	all, err := c.looker.run(ctx, &c.looker.full, []any{"", lookMax})
	if err != nil {
		return nil, err
	}
	cursor := c.known.cursor
	c.known = newKnown()
	c.known.cursor = cursor
	c.known.add(all)
	asked := c.known.ask(len(all), func(endpoint string) int {
		if left, busy := room[endpoint]; busy {
			return left
		}
		return share
	})
	messages, _, err := c.claimer.claim(ctx, order{most: n, turns: asked.turns})
	if err == nil {
		c.known.settle(asked, messages, len(messages) == n)
	}
	return messages, err
}

// recorder of a worker that exists only by its name.
func (r *rig) recorder(worker string) *recorder {
	logger, c := slog.New(slog.DiscardHandler), Config{}.WithDefaults()
	return &recorder{
		pool: r.Pool, sql: recordStatementsIn(r.Schema), worker: worker, outage: newOutage(logger).door("test"), logger: logger,
		openAfter: c.OpenAfter, openFor: c.OpenFor, openForMax: c.OpenForMax,
	}
}

// claim takes what is due, without bounds.
func (r *rig) claim(worker string) []message {
	r.t.Helper()
	messages, err := r.claimer(worker).claim(r.t.Context(), 1000, 1000, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return messages
}

// claimOne takes the one message that is due.
func (r *rig) claimOne(worker string) message {
	r.t.Helper()
	messages := r.claim(worker)
	if len(messages) != 1 {
		r.t.Fatalf("%d messages claimed, want 1", len(messages))
	}
	return messages[0]
}

// record writes results as one batch of one worker.
func (r *rig) record(worker string, batch ...result) {
	r.t.Helper()
	if err := r.recorder(worker).writeOnce(r.t.Context(), batch); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) expireLeases() {
	r.t.Helper()
	r.exec(`UPDATE outbox.due SET locked_until = now() - interval '1 s' WHERE locked_by IS NOT NULL`)
}

// rows is every row of every table, with the transaction that wrote it last: two of them are equal when nothing was
// written between.
func (r *rig) rows() string {
	r.t.Helper()
	var all strings.Builder
	for _, table := range []string{"message", "due", "attempt", "dead", "endpoint"} {
		var rows string
		sql := "SELECT coalesce(string_agg(x, E'\\n' ORDER BY x), '') FROM (SELECT t.xmin::text || ' ' || t::text AS x FROM " + r.Schema + "." + table + " t) y"
		if err := r.Pool.QueryRow(r.t.Context(), sql).Scan(&rows); err != nil {
			r.t.Fatal(err)
		}
		all.WriteString(table + ":\n" + rows + "\n")
	}
	return all.String()
}

// results are what a request for a message may lead to, by what becomes of the message.
func results(m message) map[string]result {
	started := time.Now()
	of := func(a answer, v verdict) result {
		a.startedAt = started
		return result{message: m, answer: a, verdict: v}
	}
	return map[string]result{
		"delivered": of(answer{class: classDelivered, statusCode: 200}, verdict{action: actionDelivered}),
		"retried":   of(answer{class: classStatus, statusCode: 429}, verdict{action: actionRetry, delay: time.Hour, hold: time.Hour}),
		"refused":   of(answer{class: classStatus, statusCode: 404, err: "answered 404"}, verdict{action: actionDead, reason: "refused"}),
		"gone":      of(answer{class: classStatus, statusCode: 410}, verdict{action: actionDead, reason: "gone", pause: true}),
		"released":  of(answer{}, verdict{action: actionRelease}),
	}
}

func TestAnExpiredLeaseIsTakenUpAndTheLostAttemptKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	first := r.claimOne("one")
	if got := r.claim("two"); len(got) > 0 {
		t.Fatal("a message is claimed twice")
	}
	r.expireLeases()
	second := r.claimOne("two")
	if first.id != id || first.attempt != 1 || second.id != id || second.attempt != 2 {
		t.Errorf("attempts %d and %d", first.attempt, second.attempt)
	}
	d := r.state(id)
	if len(d.AttemptList) != 1 {
		t.Fatalf("attempts: %+v", d.AttemptList)
	}
	if a := d.AttemptList[0]; a.Attempt != 1 || a.Class != "lost" || a.Worker != "one" || a.StatusCode != nil || a.DurationMS != nil {
		t.Errorf("the lost attempt is kept as %+v", a)
	}
	r.record("two", results(second)["delivered"])
	d = r.state(id)
	if d.State != outbox.StateDelivered || len(d.AttemptList) != 2 || d.AttemptList[1].Worker != "two" {
		t.Errorf("%s after %+v", d.State, d.AttemptList)
	}
}

// TestAStaleWorkerChangesNoRow: the fence is the attempt's number and the lease's holder, and both of them.
func TestAStaleWorkerChangesNoRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("https://a.test/hook", "run-1")
	stale := r.claimOne("one")
	r.expireLeases()
	taken := r.claimOne("two")

	before := r.rows()
	for name, result := range results(stale) {
		r.record("one", result)
		if got := r.rows(); got != before {
			t.Errorf("%s by a worker whose lease was taken over changed rows: %s\nbefore: %s", name, got, before)
		}
	}
	for name, result := range results(taken) {
		r.record("one", result)
		if got := r.rows(); got != before {
			t.Errorf("%s under the attempt of another worker changed rows: %s\nbefore: %s", name, got, before)
		}
	}
	for name, result := range results(stale) {
		r.record("two", result)
		if got := r.rows(); got != before {
			t.Errorf("%s under an earlier attempt changed rows: %s\nbefore: %s", name, got, before)
		}
	}
	r.record("two", results(taken)["delivered"])
	if r.rows() == before {
		t.Error("the worker that holds the lease changed nothing")
	}
}

func TestAnExpiredLeaseStillCountsWhileNobodyTookIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo("https://a.test/hook", "run-1")
	m := r.claimOne("one")
	r.expireLeases()
	r.record("one", results(m)["delivered"])
	if d := r.state(id); d.State != outbox.StateDelivered {
		t.Errorf("the answer came late, to nobody's harm, and the message is %s", d.State)
	}
}

func TestABatchRecordedTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	names := []string{"delivered", "retried", "refused", "gone", "released"}
	for _, name := range names {
		r.writeTo("https://"+name+".test/hook", name)
	}
	var batch []result
	for _, m := range r.claim("one") {
		batch = append(batch, results(m)[m.runID])
	}
	if len(batch) != len(names) {
		t.Fatalf("%d messages claimed", len(batch))
	}
	r.record("one", batch...)
	before := r.rows()
	r.record("one", batch...)
	if got := r.rows(); got != before {
		t.Errorf("the second time it changed rows: %s\nbefore: %s", got, before)
	}
}

func TestACancelledMessageStaysCancelledWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var ids []outbox.ID
	for name := range results(message{}) {
		ids = append(ids, r.writeTo("https://"+name+".test/hook", name))
	}
	messages := r.claim("one")
	if err := r.store.Cancel(t.Context(), ids, "enough"); err != nil {
		t.Fatal(err)
	}
	before := r.rows()
	for _, m := range messages {
		r.record("one", results(m)[m.runID])
		if got := r.rows(); got != before {
			t.Errorf("%s changed rows: %s\nbefore: %s", m.runID, got, before)
		}
		if d := r.state(m.id); d.State != outbox.StateCancelled || *d.DeadError != "enough" {
			t.Errorf("%s: it is %s", m.runID, d.State)
		}
	}
}
