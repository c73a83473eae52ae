package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Candidate is an endpoint that has something to claim, and since when. It may be gone when it is claimed.
type Candidate struct {
	Endpoint string
	Since    time.Time
}

// Scanner finds candidates, in two ways.
//
// A full scan descends the index to each endpoint and passes what is dead or leased there. It finds everything, and is
// cheap as long as vacuum removes what was delivered. While vacuum cannot (a dump runs, a transaction was forgotten), each
// full scan passes all that was delivered since.
//
// A recent scan reads what was written since a time, the newest first, because the primary key of due is ordered by time.
// Its cost does not depend on what was delivered. It misses what was committed long after it was written, what was written
// by a host whose clock is behind, leases that ended, and retries that became due: the next full scan finds them.
//
// Both leave out endpoints that are held back. A Scanner may run several scans at once.
type Scanner struct {
	pool         *pgxpool.Pool
	full, recent string
}

// NewScanner returns a scanner of a schema.
func NewScanner(pool *pgxpool.Pool, schema string) *Scanner {
	return &Scanner{pool: pool, full: inSchema(fullScanSQL, schema), recent: inSchema(recentScanSQL, schema)}
}

// ScanMax is the most candidates that one full scan returns, and the most messages that one recent scan reads.
const ScanMax = 1000

// FullScanTimeout bounds a full scan: one over the dead rows of days takes long, and must end.
const FullScanTimeout = 5 * time.Minute

const fullScanSQL = `WITH RECURSIVE walk (endpoint) AS (
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > $1 ORDER BY d.endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > w.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM walk w WHERE w.endpoint IS NOT NULL
)
SELECT c.endpoint, d.since FROM walk c CROSS JOIN LATERAL (
    SELECT ` + since + ` AS since FROM outbox.due d
    WHERE d.endpoint = c.endpoint AND ` + claimable + `
    ORDER BY d.due_at LIMIT 1
) d
WHERE c.endpoint IS NOT NULL AND ` + candidateIsServed + `
LIMIT $2`

// recentSQL finds the endpoints of the messages written from $1 to $2, the newest $3 of them: since when each has
// something to claim, and how many of these messages. The claim begins with it, too.
const recentSQL = `SELECT c.endpoint, c.due_at, c.written FROM (
        SELECT r.endpoint, min(r.due_at) AS due_at, count(*)::integer AS written FROM (
            SELECT d.endpoint, ` + since + ` AS due_at FROM outbox.due d
            WHERE d.message_id >= $1 AND d.message_id < $2 AND ` + claimable + `
            ORDER BY d.message_id DESC LIMIT $3
        ) r GROUP BY r.endpoint
    ) c
    WHERE ` + candidateIsServed

const recentScanSQL = `SELECT endpoint, due_at FROM (
    ` + recentSQL + `
) recent`

// recentArgs returns the arguments of recentSQL. Ids begin with their writer's time. The end keeps a writer whose clock is
// ahead from being read again and again.
func recentArgs(since time.Time) []any {
	return []any{outbox.IDFloor(since), outbox.IDFloor(time.Now().Add(time.Second)), ScanMax}
}

// Full returns the candidates behind an endpoint, in the order of their names; from the first on when it is "". When it
// returns ScanMax, there may be more behind the last.
func (s *Scanner) Full(ctx context.Context, after string) ([]Candidate, error) {
	return s.scan(ctx, FullScanTimeout, s.full, after, ScanMax)
}

// Recent returns the candidates that messages were written for since a time of this process's clock. The caller goes back
// a little further than its last scan, for clocks that differ and commits that take their time. It is bound by
// ClaimTimeout.
func (s *Scanner) Recent(ctx context.Context, since time.Time) ([]Candidate, error) {
	return s.scan(ctx, ClaimTimeout, s.recent, recentArgs(since)...)
}

func (s *Scanner) scan(ctx context.Context, most time.Duration, sql string, args ...any) (all []Candidate, err error) {
	err = within(ctx, "scan for candidates", most, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) { b.Queue(sql, args...) }
		return hotBatch(ctx, s.pool, queue, func(results pgx.BatchResults) (err error) {
			all, err = collect(results, pgx.RowToStructByPos[Candidate])
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
