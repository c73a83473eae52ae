package roster

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// The session is this worker's alone and ends with it, so its settings are the session's. A statement that waits for a lock
// or for a standby must end before the client's own bound (beatTimeout) does: that would cost the session.
const settingsSQL = `SELECT set_config('lock_timeout', '1s', false), set_config('statement_timeout', '3s', false),
    set_config('synchronous_commit', 'off', false)`

// key is the lock of a worker's name. Locks are the database's own, so the schema is a part of it.
const key = `hashtextextended('outbox.worker ' || name, 0)`

const lockSQL = `SELECT pg_advisory_lock(` + key + `) FROM (SELECT $1::text AS name) w`

// identitySQL returns which session this is, and of which server. Where a role may not see its own session, its start time is the current time.
const identitySQL = `SELECT pg_backend_pid(), coalesce(
    (SELECT a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()), clock_timestamp()), pg_postmaster_start_time()`

// endSQL ends the session that had the lock before, in case the server does not know yet that it was lost.
const endSQL = `SELECT coalesce(bool_or(pg_terminate_backend(a.pid)), false) FROM pg_stat_activity a
WHERE a.pid = $1::integer AND a.backend_start = $2::timestamptz`

const (
	// probedMax bounds a probe: the workers beyond it, those seen longest ago, keep their messages until their leases end.
	probedMax = `100`
	// deadKept is how long the row of a dead worker is kept for an operator to see, beyond its lease.
	deadKept = `interval '1 hour'`
)

// probeSQL tries the locks of the other workers. The locks that it gets end with the statement, and are shared, so that
// probers do not disturb each other. Its first row holds the clock.
const probeSQL = `SELECT NULL::text AS name, 0 AS pid, clock_timestamp() AS backend_start, ''::text AS host, 0::bigint AS lease_ms, 0::bigint AS age_ms, false AS free
UNION ALL
SELECT w.name, w.pid, w.backend_start, w.host, w.lease_ms, (extract(epoch FROM clock_timestamp() - w.backend_start) * 1000)::bigint,
       pg_try_advisory_xact_lock_shared(` + key + `)
FROM (SELECT * FROM outbox.worker WHERE name <> $1::text ORDER BY seen DESC LIMIT ` + probedMax + `) w`

// beatSQL writes that this worker lives, removes the rows of those that died long ago, and probes.
const beatSQL = `WITH me AS (
    INSERT INTO outbox.worker AS w (name, host, version, pid, backend_start, started, lease_ms, in_flight, clock_ahead_ms, not_ready)
    VALUES ($1::text, $2::text, $3::text, $4::integer, $5::timestamptz, $6::timestamptz, $7::bigint, $8::integer, $9::bigint, $10::text)
    ON CONFLICT (name) DO UPDATE SET pid = excluded.pid, backend_start = excluded.backend_start, seen = excluded.seen,
        in_flight = excluded.in_flight, clock_ahead_ms = excluded.clock_ahead_ms, not_ready = excluded.not_ready
), old AS (
    DELETE FROM outbox.worker WHERE ctid = ANY (ARRAY(
        SELECT o.ctid FROM outbox.worker o
        WHERE o.name <> $1::text AND o.seen < now() - ` + deadKept + ` - o.lease_ms * interval '1 ms'
        LIMIT ` + probedMax + ` FOR UPDATE SKIP LOCKED))
)
` + probeSQL

// verifySQL checks on another session whether it belongs to the same server, and which of the dead still have the same row.
const verifySQL = `SELECT w.name FROM outbox.worker w
JOIN unnest($1::text[], $2::integer[], $3::timestamptz[]) AS d (name, pid, backend_start)
    ON d.name = w.name AND d.pid = w.pid AND d.backend_start = w.backend_start
WHERE pg_postmaster_start_time() = $4::timestamptz`

const retireSQL = `DELETE FROM outbox.worker WHERE name = $1::text`

// readProbe reads the answer to probeSQL or beatSQL.
func readProbe(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (answers []probed, clock time.Time, err error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, clock, err
	}
	defer rows.Close()
	answers = []probed{}
	for rows.Next() {
		var name *string
		var p probed
		var lease, age int64
		if err := rows.Scan(&name, &p.pid, &p.backendStart, &p.host, &lease, &age, &p.free); err != nil {
			return nil, clock, err
		}
		if name == nil {
			clock = p.backendStart
			continue
		}
		p.name, p.lease, p.age = *name, time.Duration(lease)*time.Millisecond, time.Duration(age)*time.Millisecond
		answers = append(answers, p)
	}
	return answers, clock, rows.Err()
}
