package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// looker finds the endpoints that have something to claim. There are two ways to look.
//
// A full look descends the index to each endpoint and passes what is dead or leased there. It finds everything, and is
// cheap as long as vacuum removes what was delivered. When it cannot (a dump, a forgotten transaction), each full look
// passes all that was delivered since.
//
// A fresh look reads what was written since the last look, the newest first: the due table's primary key is ordered by
// time. Every claim makes one by itself; the doorbell makes them while a full look has become dear. It misses what was
// committed long after it was written, or by a writer whose clock differs, what a worker gave up, and what a retry made due
// again: the next full look finds them.
//
// Each has a pace set by what it costs, and one of each may be under way: a full look over the dead rows of days holds up
// no fresh one.
type looker struct {
	pool        *pgxpool.Pool
	full, fresh look
	done        chan looked
	cursor      string    // the endpoint that the last full look ended at; "" when it came to the end
	since       time.Time // the start of the last look
	underWay    sync.WaitGroup
}

// look is one way to look.
type look struct {
	sql     string
	most    time.Duration
	began   time.Time // zero while none is under way
	took    time.Duration
	restsTo time.Time
}

// looked is what came of one.
type looked struct {
	by    *look
	found []found
	err   error
}

const (
	lookMax     = 1000                  // endpoints that a full look finds, for the next one to go on from there; messages of a fresh one
	lookTimeout = 5 * time.Minute       // of a full look: one over the dead rows of days takes long, and must end
	freshWorth  = 20 * time.Millisecond // a full look that takes longer is dear
	freshBefore = 2 * time.Second       // a fresh look begins so long before the last look: for clocks that differ, and commits that take their time
)

const fullLookSQL = `WITH RECURSIVE walk (endpoint) AS (
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > $1 ORDER BY d.endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > w.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM walk w WHERE w.endpoint IS NOT NULL
)
SELECT w.endpoint, d.due_at FROM walk w CROSS JOIN LATERAL (
    SELECT d.due_at FROM outbox.due d
    WHERE d.endpoint = w.endpoint AND d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now())
    ORDER BY d.due_at LIMIT 1
) d
WHERE w.endpoint IS NOT NULL
  AND NOT coalesce((SELECT e.paused OR e.open_until > now() FROM outbox.endpoint e WHERE e.endpoint = w.endpoint), false)
LIMIT $2`

// freshSQL finds the endpoints of the messages written from $1 to $2, the newest $3 of them: since when each has something
// due, and how much.
const freshSQL = `SELECT d.endpoint, d.due_at, d.written FROM (
    SELECT d.endpoint, min(d.due_at) AS due_at, count(*)::integer AS written FROM (
        SELECT d.endpoint, d.due_at FROM outbox.due d
        WHERE d.message_id >= $1 AND d.message_id < $2
          AND d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now())
        ORDER BY d.message_id DESC LIMIT $3
    ) d GROUP BY d.endpoint
) d
WHERE NOT coalesce((SELECT e.paused OR e.open_until > now() FROM outbox.endpoint e WHERE e.endpoint = d.endpoint), false)`

const freshLookSQL = `SELECT endpoint, due_at FROM (` + freshSQL + `) fresh`

// writtenSince returns the arguments of freshSQL. The end keeps it from reading again and again what a writer wrote
// whose clock is ahead.
func writtenSince(t time.Time) []any {
	return []any{outbox.IDFloor(t), outbox.IDFloor(time.Now().Add(time.Second)), lookMax}
}

func newLooker(pool *pgxpool.Pool, schema string) *looker {
	return &looker{
		pool:  pool,
		full:  look{sql: inSchema(fullLookSQL, schema), most: lookTimeout},
		fresh: look{sql: inSchema(freshLookSQL, schema), most: claimTimeout},
		done:  make(chan looked, 2), // one of each
		since: time.Now(),
	}
}

// begin begins a look whose result comes over done, or returns how long it has to wait: false when the end of a look
// that is under way comes first.
func (l *looker) begin(ctx context.Context) (began bool, wait time.Duration) {
	switch full, fresh := l.full.left(), l.fresh.left(); {
	case full <= 0:
		l.start(ctx, &l.full, []any{l.cursor, lookMax})
	case l.full.dear() && fresh <= 0:
		l.start(ctx, &l.fresh, writtenSince(l.since.Add(-freshBefore)))
	case l.full.dear():
		return false, min(full, fresh)
	default:
		return false, full
	}
	return true, 0
}

func (l *looker) start(ctx context.Context, by *look, args []any) {
	by.began = time.Now()
	l.since = by.began
	l.underWay.Go(func() {
		all, err := l.run(ctx, by, args)
		l.done <- looked{by: by, found: all, err: err}
	})
}

func (l *looker) run(ctx context.Context, by *look, args []any) (all []found, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, by.most, fmt.Errorf("took longer than %v", by.most))
	defer cancel()
	err = hotBatch(ctx, l.pool, func(b *pgx.Batch) { b.Queue(by.sql, args...) }, func(results pgx.BatchResults) (err error) {
		all, err = collect(results, pgx.RowToStructByPos[found])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for due messages: %w", err)
	}
	return all, nil
}

// end takes note of a look's end. It reports whether the next one would find more.
func (l *looker) end(r looked) (more bool) {
	r.by.took = time.Since(r.by.began)
	r.by.restsTo, r.by.began = time.Now().Add(lookRest*r.by.took), time.Time{}
	more = len(r.found) == lookMax
	if r.by == &l.full && r.err == nil {
		l.cursor = ""
		if more {
			l.cursor = r.found[lookMax-1].Endpoint
		}
	}
	return more
}

// lookRest keeps looking to a tenth of the time: after each look it rests nine times as long.
const lookRest = 9

// lookUnderWay is how long a look waits for another of its kind: for ever, for its end is waited for.
const lookUnderWay = time.Hour

// left is how long this way to look has to wait.
func (l *look) left() time.Duration {
	if !l.began.IsZero() {
		return lookUnderWay
	}
	return time.Until(l.restsTo)
}

// dear reports that this look takes, or took, too long to be made for every wake.
func (l *look) dear() bool {
	return l.took > freshWorth || !l.began.IsZero() && time.Since(l.began) > freshWorth
}
