package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// message is what a claim brings: all that one request needs.
type message struct {
	id             outbox.ID
	endpoint       string
	attempt        int // this one's number, counted over the message's life
	attemptsBefore int // made before the last replay; the retry schedule counts from here
	endpointMax    int // requests at once to the endpoint, as an operator limited them; 0 when none did
	runID          string
	status         outbox.TerminalStatus
	body           []byte
	bodyBytes      int // its size; one over claimedBytesMax is left in the row, to be loaded when there is room for it
	url            string
	headers        []byte // JSON, read only for a message that forwards some
	options        []byte // JSON, or nil: decoded by the delivery, where a fault is this message's alone
}

// claimer takes due messages under a lease, one claim at a time.
type claimer struct {
	pool   *pgxpool.Pool
	sql    string
	worker string
	lease  time.Duration

	openAfter int    // failures in a row that open an endpoint
	cursor    string // the endpoint that was served last; the next claim begins behind it
}

// The claim is one statement.
//
// turns walks the endpoints that have a due row, whatever its time, in a circle that begins behind the one served last.
// Each step is one descent of the index (endpoint, due_at), and the LIMIT below stops the walk when enough was found.
//
// probed and granted take what only one worker may: the one probe of an endpoint that was opened after too many failures
// and whose time is over, and the requests that the rate of an endpoint has left since they were last granted, of one
// second at most.
//
// picked takes from each endpoint at most its share of requests less what is under way there ($4 holds that for the
// endpoints that have any), the longest due first, passing over rows that others are claiming, and over endpoints that
// are paused or asked to be left alone.
//
// claimed counts the attempt and leases the row. Neither column is indexed: the update stays on its page. It goes to the
// rows by the places where picked locked them; a row that moved in between stays locked for the moment and unclaimed,
// for the next claim.
//
// lost keeps a trace of the attempt whose lease ran out.
const claimSQL = `WITH RECURSIVE
ahead (endpoint) AS (
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > $1 ORDER BY d.endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > a.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM ahead a WHERE a.endpoint IS NOT NULL
),
behind (endpoint) AS (
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint <= $1 ORDER BY d.endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > b.endpoint AND d.endpoint <= $1 ORDER BY d.endpoint LIMIT 1)
    FROM behind b WHERE b.endpoint IS NOT NULL
),
turns AS (
    SELECT endpoint FROM ahead WHERE endpoint IS NOT NULL
    UNION ALL
    SELECT endpoint FROM behind WHERE endpoint IS NOT NULL
),
probed AS (
    UPDATE outbox.endpoint e SET probing = true, open_until = now() + $6::interval
    WHERE e.endpoint IN (
        SELECT f.endpoint FROM outbox.endpoint f
        WHERE f.failures >= $7 AND f.failures > 0 AND NOT f.paused AND f.open_until <= now()
          AND EXISTS (SELECT FROM outbox.due d WHERE d.endpoint = f.endpoint AND d.due_at <= now()
                      AND (d.locked_until IS NULL OR d.locked_until <= now()))
        ORDER BY f.open_until LIMIT 16 FOR UPDATE SKIP LOCKED
    )
    RETURNING e.endpoint
),
granted AS (
    UPDATE outbox.endpoint e SET granted_at = now()
    WHERE e.endpoint IN (
        SELECT f.endpoint FROM outbox.endpoint f
        WHERE f.rate_per_second IS NOT NULL AND NOT f.paused
          AND f.granted_at <= now() - interval '1 s' / f.rate_per_second
        FOR UPDATE SKIP LOCKED
    )
    RETURNING e.endpoint
),
picked AS MATERIALIZED (
    SELECT d.place, d.message_id, d.attempt, d.locked_by, d.locked_until
    FROM turns t
    LEFT JOIN LATERAL (
        SELECT e.paused OR e.open_until > now() AS closed,
               least(e.max_in_flight,
                     CASE WHEN e.failures >= $7 THEN (SELECT count(*) FROM probed p WHERE p.endpoint = e.endpoint) END,
                     CASE WHEN e.rate_per_second IS NOT NULL THEN (
                         SELECT floor(least(e.rate_per_second * extract(epoch FROM now() - e.granted_at),
                                            greatest(e.rate_per_second, 1)))
                         FROM granted g WHERE g.endpoint = e.endpoint
                         UNION ALL SELECT 0 LIMIT 1) END)::integer AS most
        FROM outbox.endpoint e WHERE e.endpoint = t.endpoint OFFSET 0
    ) e ON true
    CROSS JOIN LATERAL (
        SELECT d.ctid AS place, d.message_id, d.attempt, d.locked_by, d.locked_until
        FROM outbox.due d
        WHERE d.endpoint = t.endpoint AND d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now())
        ORDER BY d.due_at
        LIMIT least(coalesce(($4::jsonb ->> t.endpoint)::integer, $3::integer), e.most)
        FOR UPDATE SKIP LOCKED
    ) d
    WHERE e.closed IS NOT TRUE
    LIMIT $2
),
claimed AS (
    UPDATE outbox.due d SET attempt = d.attempt + 1, locked_by = $5, locked_until = now() + $6::interval, waits_for = NULL
    WHERE d.ctid = ANY (ARRAY(SELECT place FROM picked))
    RETURNING d.message_id, d.endpoint, d.attempt, d.attempts_before
),
lost AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, class, error, worker)
    SELECT message_id, attempt, locked_until, 'lost', 'the worker''s lease ran out before it recorded an answer',
           coalesce(locked_by, 'unknown')
    FROM picked WHERE locked_until IS NOT NULL AND attempt > 0
    ON CONFLICT DO NOTHING
)
SELECT c.message_id, c.endpoint, c.attempt, c.attempts_before,
       coalesce((SELECT e.max_in_flight FROM outbox.endpoint e WHERE e.endpoint = c.endpoint), 0), m.run_id, m.status, m.body_bytes, m.body, m.url, m.headers, m.options
FROM claimed c CROSS JOIN LATERAL (
    SELECT m.run_id, m.status, octet_length(b.body) AS body_bytes,
           CASE WHEN octet_length(b.body) <= $8 THEN b.body END AS body, m.url,
           CASE WHEN m.options ? 'forward' THEN m.headers END AS headers, m.options
    FROM outbox.message m
    CROSS JOIN LATERAL (SELECT coalesce(m.result, convert_to(m.error, 'UTF8'), ''::bytea) AS body) b
    WHERE m.id = c.message_id OFFSET 0
) m`

// claimTimeout bounds one claim; it is cut short, and released by its lease, rather than hold up the drain for ever.
const claimTimeout = 10 * time.Second

// claim takes at most n messages, of each endpoint at most share, or room[endpoint] where that is set.
func (c *claimer) claim(ctx context.Context, n, share int, room map[string]int) ([]message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("claim took longer than %v", claimTimeout))
	defer cancel()
	roomJSON, err := json.Marshal(room)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	messages, err := hotQuery(ctx, c.pool, scanMessage, c.sql, c.cursor, n, share, string(roomJSON), c.worker, c.lease, max(c.openAfter, 1),
		claimedBytesMax)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	if len(messages) == n { // there may be more: whoever was served last waits for the others
		c.cursor = lastServed(c.cursor, messages)
	} else {
		c.cursor = ""
	}
	return messages, nil
}

// lastServed returns the endpoint that comes last in the circle that begins behind cursor. Messages come in no order.
// The column's collation is "C", which orders text as Go does.
func lastServed(cursor string, messages []message) string {
	last := messages[0].endpoint
	for _, m := range messages[1:] {
		wrapped, lastWrapped := m.endpoint <= cursor, last <= cursor
		if wrapped != lastWrapped && wrapped || wrapped == lastWrapped && m.endpoint > last {
			last = m.endpoint
		}
	}
	return last
}

func scanMessage(row pgx.CollectableRow) (m message, err error) {
	err = row.Scan(&m.id, &m.endpoint, &m.attempt, &m.attemptsBefore, &m.endpointMax, &m.runID, &m.status, &m.bodyBytes,
		&m.body, &m.url, &m.headers, &m.options)
	return m, err
}
