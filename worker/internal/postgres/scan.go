package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

// Candidate is an endpoint that has something to claim, and since when. By the time of the claim, that may have changed.
type Candidate struct {
	Endpoint string
	Since    time.Time
}

// Scanner finds candidates, in two ways.
//
// A full scan descends the index to each endpoint and passes what is dead or leased there. It finds everything, and is
// cheap as long as vacuum removes delivered rows. While vacuum cannot (a dump runs, a transaction was forgotten), each
// full scan passes everything that was delivered since.
//
// A recent scan reads what was written since a time, the newest first, because the primary key of due is ordered by time.
// Its cost does not depend on what was delivered. It misses what was committed long after it was written, what was written
// by a host whose clock is behind, leases that ended, and retries that became due: the next full scan finds them.
//
// Both leave out endpoints that are held back. A Scanner may run several scans at once.
type Scanner struct {
	db           *DB
	full, recent string
	metrics      scanMetrics
}

// NewScanner returns a scanner of a schema. It measures nothing when m is nil.
func NewScanner(db *DB, schema string, m *instruments.Maker) *Scanner {
	return &Scanner{db: db, metrics: newScanMetrics(m), full: sqlschema.In(timed(fullScanSQL), schema), recent: sqlschema.In(timed(recentScanSQL), schema)}
}

// ScanMax is the most candidates that one full scan returns, and the most messages that one recent scan reads.
const ScanMax = 1000

// FullScanTimeout bounds a full scan, waits included: one over the dead rows of several days takes long, and must still end.
const FullScanTimeout = 30 * time.Second

const fullScanSQL = `WITH RECURSIVE walk (endpoint) AS (
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > $2 ORDER BY d.endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > w.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM walk w WHERE w.endpoint IS NOT NULL
)
SELECT c.endpoint, d.since FROM walk c CROSS JOIN LATERAL (
    SELECT ` + dueSince + ` AS since FROM outbox.due d
    WHERE d.endpoint = c.endpoint AND ` + claimable + `
    ORDER BY d.due_at LIMIT 1
) d
WHERE c.endpoint IS NOT NULL AND ` + candidateCanGive + `
LIMIT $3`

// recentSQL finds the endpoints of the messages written from $2 ago to $3 from now, the newest $4 of them: for each, since when
// it has something to claim, and how many of these messages. The claim begins with it, too.
const recentSQL = `SELECT c.endpoint, c.due_at, c.written FROM (
        SELECT r.endpoint, min(r.due_at) AS due_at, count(*)::integer AS written FROM (
            SELECT d.endpoint, ` + dueSince + ` AS due_at FROM outbox.due d
            WHERE d.message_id >= ` + recentFloor + ` AND d.message_id < ` + recentEnd + ` AND ` + claimable + `
            ORDER BY d.message_id DESC LIMIT $4
        ) r GROUP BY r.endpoint
    ) c
    WHERE ` + candidateIsServed

// Ids begin with their writer's time. This process's clock decides nothing here: it only measures a time span.
// The upper bound prevents messages of a writer whose clock is ahead from being read again and again.
const (
	recentFloor = idFloorLeft + `now() - $2::interval` + idFloorRight
	recentEnd   = idFloorLeft + `now() + $3::interval` + idFloorRight

	// Around a time, these make the least id of a message that was written then, as uuid7.Floor does.
	idFloorLeft  = `(lpad(to_hex(floor(greatest(extract(epoch FROM `
	idFloorRight = `), 0) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid`
)

const recentScanSQL = `SELECT endpoint, due_at FROM (
    ` + recentSQL + `
) recent`

// recentArgs returns the arguments of recentSQL.
func (db *DB) recentArgs(ago time.Duration) []any {
	return []any{db.deadOwners(), max(ago, 0), recentAhead, ScanMax}
}

// recentAhead is how far ahead a writer's clock may be so that its messages are found as recent ones.
const recentAhead = time.Second

// timed adds a row before and one after what a scan returns, with the database's clock in microseconds since 1970. The
// locks of a statement are taken before its first row. So the time between the two rows is the work of the scan, without waits
// for locks, for a connection or for the network.
func timed(scan string) string {
	const clock = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
	return `SELECT NULL::text, NULL::timestamptz, ` + clock + `
UNION ALL
SELECT c.endpoint, c.due_at, 0 FROM (
` + scan + `
) AS c (endpoint, due_at)
UNION ALL
SELECT NULL, NULL, ` + clock
}

// Scan is the result of one scan.
type Scan struct {
	Candidates []Candidate
	Took       time.Duration // the work on the server, without waits
	Clock      time.Time     // the database's, when it ended
}

// Full returns the candidates after an endpoint, in the order of their names; from the first on when it is "". When it
// returns ScanMax, there may be more.
func (s *Scanner) Full(ctx context.Context, after string) (Scan, error) {
	defer s.metrics.full.Since(time.Now())
	return s.scan(ctx, FullScanTimeout, s.full, s.db.deadOwners(), after, ScanMax)
}

// Recent returns the candidates that got messages within the time since. The caller goes back a little further
// than its last scan, because writers' clocks differ and commits take time. ClaimTimeout bounds it.
func (s *Scanner) Recent(ctx context.Context, ago time.Duration) (Scan, error) {
	defer s.metrics.recent.Since(time.Now())
	return s.scan(ctx, ClaimTimeout, s.recent, s.db.recentArgs(ago)...)
}

func (s *Scanner) scan(ctx context.Context, most time.Duration, sql string, args ...any) (scan Scan, err error) {
	err = within(ctx, "scan for candidates", most, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) { b.Queue(sql, args...) }
		return hotBatch(ctx, s.db, queue, func(results pgx.BatchResults) (err error) {
			scan, err = readScan(results)
			return err
		})
	})
	if err != nil {
		return Scan{}, err
	}
	return scan, nil
}

// readScan reads the candidates between the two rows that hold the clock.
func readScan(results pgx.BatchResults) (scan Scan, err error) {
	rows, err := results.Query()
	if err != nil {
		return Scan{}, err
	}
	defer rows.Close()
	var began time.Time
	for rows.Next() {
		if rows.RawValues()[0] == nil {
			var micros int64
			if err := rows.Scan(nil, nil, &micros); err != nil {
				return Scan{}, err
			}
			if scan.Clock = time.UnixMicro(micros); began.IsZero() {
				began = scan.Clock
			}
			continue
		}
		var c Candidate
		if err := rows.Scan(&c.Endpoint, &c.Since, nil); err != nil {
			return Scan{}, err
		}
		scan.Candidates = append(scan.Candidates, c)
	}
	scan.Took = max(scan.Clock.Sub(began), 0)
	return scan, rows.Err()
}
