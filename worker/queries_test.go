package worker

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// queries counts what a worker asks of its database, River's questions included; a batch is one.
type queries struct{ scans, claims, records, beats, others atomic.Int64 }

func (q *queries) count(sql string) {
	switch {
	case strings.Contains(sql, "WITH RECURSIVE walk"):
		q.scans.Add(1)
	case strings.Contains(sql, "picked AS"):
		q.claims.Add(1)
	case strings.Contains(sql, "finished AS"):
		q.records.Add(1)
	case strings.Contains(sql, "pg_try_advisory_xact_lock_shared"):
		q.beats.Add(1)
	case strings.HasPrefix(sql, "SELECT set_config("): // goes with a claim, a record or a scan
	default:
		q.others.Add(1)
	}
}

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	q.count(data.SQL)
	return ctx
}

func (q *queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (q *queries) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (q *queries) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	q.count(data.SQL)
}

func (q *queries) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (r *rig) counted() (*pgxpool.Pool, *queries) {
	q := new(queries)
	return r.NewPool(r.t, func(c *pgxpool.Config) { c.ConnConfig.Tracer = q }), q
}

// TestAnIdleWorkerAsksOnceAPollAndRiverNowAndThen: DESIGN.md states both.
func TestAnIdleWorkerAsksOnceAPollAndRiverNowAndThen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool, q := r.counted()
	c := r.config()
	c.PollInterval, c.SampleInterval = 500*time.Millisecond, time.Hour
	r.runOn(pool, c)
	r.await("it has started, and made its sample", func() bool {
		return q.scans.Load() >= 3 && r.count(`SELECT count(*) FROM outbox.sample`) > 0
	})
	began := time.Now() // before the first count, as the end is after the last: whatever is late between is on the safe side
	scans, others, claims, beats := q.scans.Load(), q.others.Load(), q.claims.Load(), q.beats.Load()
	const polls = 20
	r.await("it has polled", func() bool { return q.scans.Load() >= scans+polls })
	scans, others, claims, beats = q.scans.Load()-scans, q.others.Load()-others, q.claims.Load()-claims, q.beats.Load()-beats
	elapsed := time.Since(began)
	if most := int64(elapsed/c.PollInterval) + 2; scans > most { // one more at each end
		t.Errorf("%d scans in %d polls", scans, most)
	}
	if claims != 0 {
		t.Errorf("%d claims while nothing is due", claims)
	}
	if most := int64(elapsed/(5*time.Second)) + 2; beats > most { // it is alone, so it probes nobody
		t.Errorf("%d beats of its lock in %v, want at most %d", beats, elapsed, most)
	}
	t.Logf("%d scans and %d questions of River in %.1f s", scans, others, elapsed.Seconds())
	if most := int64(riverQueriesPerSecond * (elapsed.Seconds() + 5)); others > most {
		t.Errorf("River asked %d times in %v, want at most %d", others, elapsed, most)
	}
}

// riverQueriesPerSecond is what River asks for while nothing happens, by the intervals of its settings and its own.
const riverQueriesPerSecond = 5

// TestABusyWorkerDoesNotPoll: it scans when a drain begins and ends, and asks for nothing but messages between.
func TestABusyWorkerDoesNotPoll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	const messages = 1500
	for range messages / 500 {
		r.due(to.URL, 500, 0)
	}
	pool, q := r.counted()
	c := r.config()
	c.PollInterval = time.Hour
	r.runOn(pool, c)
	r.await("everything is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := q.scans.Load(); n > 5 {
		t.Errorf("%d scans for one endpoint's messages", n)
	}
	claims, records := q.claims.Load(), q.records.Load()
	t.Logf("%d claims, %d records", claims, records)
	if claims > messages/4 || records > messages/4 {
		t.Errorf("%d claims and %d records for %d messages", claims, records, messages)
	}
}

// TestATrickleToManyEndpointsCostsAClaimAMessage: what is woken for is found and taken by the same claim, and looked for a
// few times a second.
func TestATrickleToManyEndpointsCostsAClaimAMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var urls []string
	for range 50 {
		urls = append(urls, newReceiver(t, nil).URL)
	}
	pool, q := r.counted()
	c := r.config()
	c.PollInterval = time.Hour
	r.runOn(pool, c)
	waker, err := outbox.NewWaker(r.Pool, r.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = waker.Close(t.Context()) }()
	r.writeTo(urls[0], "the first one rings for a drain")
	waker.Wake()
	delivered := func(n int) {
		r.await("it is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.attempt`) == n })
	}
	delivered(1)
	began := time.Now()
	claims, scans := q.claims.Load(), q.scans.Load()
	const messages = 100
	for i := range messages {
		r.writeTo(urls[i%len(urls)], "run")
		waker.Wake()
		delivered(2 + i)
	}
	claims, scans = q.claims.Load()-claims, q.scans.Load()-scans
	took := time.Since(began)
	t.Logf("%d claims and %d scans", claims, scans)
	if claims > messages*5/4+scans { // what a scan finds is claimed, if the claim was not faster
		t.Errorf("%d claims for %d messages, and %d scans", claims, messages, scans)
	}
	if most := int64(took/(100*time.Millisecond)) + 2; scans > most {
		t.Errorf("%d scans in %v, want at most %d", scans, took, most)
	}
}

// TestADrainHandsOverWithoutALook, which takes long while the MVCC horizon is pinned.
func TestADrainHandsOverWithoutALook(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(http.ResponseWriter, request) { time.Sleep(20 * time.Millisecond) }) // a receiver's work
	r.due(to.URL, 500, 0)
	pool, q := r.counted()
	c := r.config()
	c.PollInterval, c.EndpointMaxInFlight, c.drainTurn = time.Hour, 4, 20*time.Millisecond
	w, err := New(pool, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	r.await("everything is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := q.scans.Load(); n > 5 {
		t.Errorf("%d scans", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.river_job WHERE kind = 'outbox_drain'`); n < 5 {
		t.Errorf("%d drains: none handed over", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
