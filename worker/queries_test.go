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

// queries counts a worker's statements by kind. others are River's.
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

// TestAnIdleWorkerMakesOneScanPerPollInterval. DESIGN.md states this, and how many statements River makes.
func TestAnIdleWorkerMakesOneScanPerPollInterval(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool, q := r.counted()
	c := r.config()
	c.PollInterval, c.SampleInterval = 500*time.Millisecond, time.Hour
	r.runOn(pool, c)
	r.await("the worker has started, and taken its sample", func() bool {
		return q.scans.Load() >= 3 && r.count(`SELECT count(*) FROM outbox.sample`) > 0
	})
	began := time.Now() // before the first count, and the end is after the last one, so the measured time is never too short
	scans, others, claims, beats := q.scans.Load(), q.others.Load(), q.claims.Load(), q.beats.Load()
	const polls = 20
	r.await("the worker has polled 20 times", func() bool { return q.scans.Load() >= scans+polls })
	scans, others, claims, beats = q.scans.Load()-scans, q.others.Load()-others, q.claims.Load()-claims, q.beats.Load()-beats
	elapsed := time.Since(began)
	if most := int64(elapsed/c.PollInterval) + 2; scans > most { // one more at each end
		t.Errorf("%d scans, want %d at most", scans, most)
	}
	if claims != 0 {
		t.Errorf("%d claims while nothing is due, want none", claims)
	}
	if most := int64(elapsed/(5*time.Second)) + 2; beats > most { // it is alone, so it probes no other worker
		t.Errorf("%d statements on its lock and its row in %v, want at most %d", beats, elapsed, most)
	}
	t.Logf("%d scans and %d statements of River in %.1f s", scans, others, elapsed.Seconds())
	if most := int64(riverQueriesPerSecond * (elapsed.Seconds() + 5)); others > most {
		t.Errorf("River made %d statements in %v, want at most %d", others, elapsed, most)
	}
}

// riverQueriesPerSecond is how many statements River makes while nothing happens, by the intervals that we set and its own.
const riverQueriesPerSecond = 5

// TestABusyWorkerDoesNotPoll: it scans when a drain begins and ends. Between these it only claims and records.
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
		t.Errorf("%d scans for one endpoint's messages, want 5 at most", n)
	}
	claims, records := q.claims.Load(), q.records.Load()
	t.Logf("%d claims, %d records", claims, records)
	if claims > messages/4 || records > messages/4 {
		t.Errorf("%d claims and %d records for %d messages, want a quarter of that at most", claims, records, messages)
	}
}

// TestAMessageNowAndThenCostsOneClaim: after a wake, one claim finds and takes the new message. Scans are made a few times a
// second at most.
func TestAMessageNowAndThenCostsOneClaim(t *testing.T) {
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
	r.writeTo(urls[0], "the first one starts a drain")
	waker.Wake()
	delivered := func(n int) {
		r.await("the message is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.attempt`) == n })
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
	if claims > messages*5/4+scans { // a scan may find a message before the claim does, and leads to another claim
		t.Errorf("%d claims for %d messages and %d scans, want 5/4 of the messages and one per scan at most", claims, messages, scans)
	}
	if most := int64(took/(100*time.Millisecond)) + 2; scans > most {
		t.Errorf("%d scans in %v, want at most %d", scans, took, most)
	}
}

// TestADrainHandsOverToTheNextWithoutAScan: while another session pins the MVCC horizon, a scan is slow.
func TestADrainHandsOverToTheNextWithoutAScan(t *testing.T) {
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
		t.Errorf("%d scans, want 5 at most", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.river_job WHERE kind = 'outbox_drain'`); n < 5 {
		t.Errorf("%d drains, want 5 at least: a drain hands over after 20 ms", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run returns %v, want no error", err)
	}
}
