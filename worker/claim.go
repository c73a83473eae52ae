package worker

import (
	"bytes"
	"context"
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
	dueFrom        time.Time // what was due at its endpoint before is taken; a little earlier than now, for late commits
	attempt        int       // this one's number, counted over the message's life
	attemptsBefore int       // made before the last replay; the retry schedule counts from here
	endpointMax    int       // requests at once to the endpoint, as an operator limited them; 0 when none did
	runID          string
	status         outbox.TerminalStatus
	body           []byte
	bodyBytes      int // its size; one over claimedBytesMax is left in the row, to be loaded when there is room for it
	url            string
	headers        []byte // JSON, read only for a message that forwards some
	options        []byte // JSON, or nil: decoded by the delivery, where a fault is this message's alone
	claimedAt      time.Time
}

// turn is an endpoint's place in a claim: how many of its messages may be taken, of those that are due since from or
// later. What is due for longer was taken before, or will be found by the next look.
type turn struct {
	endpoint string
	from     time.Time
	most     int
}

// claimer takes due messages under a lease, one claim at a time.
type claimer struct {
	pool      *pgxpool.Pool
	sql       string
	worker    string
	lease     time.Duration
	openAfter int       // failures in a row that open an endpoint
	since     time.Time // the start of the last claim
}

// order is what a claim is asked for.
type order struct {
	most  int    // messages in all
	turns []turn // the endpoints to serve
	// Of endpoints without a turn that something was written for since the last claim, one message each is taken, of so
	// many of them, except those that have no room.
	fresh  int
	except []string
}

// newsBefore is how long before the last claim a message may have been written that is fresh: for commits that take their
// time.
const newsBefore = 300 * time.Millisecond

// The claim is one statement, whose cost depends on what it takes and on nothing else: not on how much waits, nor on the
// rows that were delivered before and that a vacuum cannot remove yet.
//
// fresh are the endpoints that something was written for since the last claim, as a fresh look finds them.
//
// turns are the endpoints to serve, in their order: the fresh ones, and those that are known. The scan of each begins where
// the last one ended, and the LIMIT below ends the whole when enough was found. Without the beginning, each scan would pass
// the index entries of all that was delivered since the oldest snapshot in the database.
//
// granted takes the requests that the rate of an endpoint has left since they were last granted, of one second at most; not
// for the fresh ones, which give nothing then and wait for a turn: one message would use up all of them.
//
// picked takes from each endpoint its turn's messages, the longest due first, passing over rows that others are claiming,
// and over endpoints that are paused or asked to be left alone. Of an endpoint that was opened after too many failures,
// and whose time is over, it takes one.
//
// probed lets only one worker send that one.
//
// claimed counts the attempt and leases the row. Neither column is indexed: the update stays on its page. Like granted and
// probed, it goes to the rows by the places where they were just locked; a row that moved in between stays locked for the
// moment and unclaimed, for the next claim.
//
// lost keeps a trace of the attempt whose lease ran out.
//
// The rows are the messages, and after them the fresh endpoints with how many were written for each.
const claimSQL = `WITH fresh AS MATERIALIZED (
    ` + freshSQL + `
),
turns AS MATERIALIZED (
    (SELECT endpoint::text, due_at AS due_from, 1 AS most FROM fresh
     WHERE endpoint <> ALL ($4) AND endpoint <> ALL ($12::text[]) LIMIT $13)
    UNION ALL
    SELECT * FROM unnest($4::text[], $5::timestamptz[], $6::integer[])
),
granted AS (
    UPDATE outbox.endpoint e SET granted_at = now()
    WHERE e.ctid = ANY (ARRAY(
        SELECT f.ctid FROM outbox.endpoint f
        WHERE f.rate_per_second IS NOT NULL AND NOT f.paused AND f.endpoint = ANY ($4)
          AND f.granted_at <= now() - interval '1 s' / f.rate_per_second
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING e.endpoint
),
picked AS MATERIALIZED (
    SELECT d.place, d.message_id, d.attempt, d.locked_by, d.locked_until, e.endpoint AS failing
    FROM turns t
    LEFT JOIN LATERAL (
        SELECT CASE WHEN e.failures >= $10 THEN e.endpoint END AS endpoint, e.paused OR e.open_until > now() AS closed,
               least(e.max_in_flight, CASE WHEN e.failures >= $10 THEN 1 END,
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
        WHERE d.endpoint = t.endpoint AND d.due_at >= t.due_from AND d.due_at <= now()
          AND (d.locked_until IS NULL OR d.locked_until <= now())
        ORDER BY d.due_at
        LIMIT least(t.most, e.most)
        FOR UPDATE SKIP LOCKED
    ) d
    WHERE e.closed IS NOT TRUE
    LIMIT $7
),
probed AS (
    UPDATE outbox.endpoint e SET probing = true, open_until = now() + $9::interval
    WHERE e.ctid = ANY (ARRAY(
        SELECT f.ctid FROM outbox.endpoint f
        WHERE f.endpoint = ANY (ARRAY(SELECT failing FROM picked WHERE failing IS NOT NULL))
          AND f.failures >= $10 AND NOT f.paused AND (f.open_until <= now() OR f.open_until IS NULL)
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING e.endpoint
),
claimed AS (
    UPDATE outbox.due d SET attempt = d.attempt + 1, locked_by = $8, locked_until = now() + $9::interval, waits_for = NULL
    WHERE d.ctid = ANY (ARRAY(
        SELECT place FROM picked WHERE failing IS NULL UNION ALL SELECT place FROM picked JOIN probed ON endpoint = failing))
    RETURNING d.message_id, d.endpoint, d.attempt, d.attempts_before, d.due_at
),
lost AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, class, error, worker)
    SELECT message_id, attempt, locked_until, 'lost', 'the worker''s lease ran out before it recorded an answer',
           coalesce(locked_by, 'unknown')
    FROM picked WHERE locked_until IS NOT NULL AND attempt > 0
    ON CONFLICT DO NOTHING
)
SELECT c.message_id, c.endpoint, least(c.due_at, now() - interval '250 ms'), c.attempt, c.attempts_before,
       coalesce((SELECT e.max_in_flight FROM outbox.endpoint e WHERE e.endpoint = c.endpoint), 0),
       m.run_id, m.status, m.body_bytes, m.body, m.url, m.headers, m.options
FROM claimed c CROSS JOIN LATERAL (
    SELECT m.run_id, m.status, octet_length(b.body) AS body_bytes,
           CASE WHEN octet_length(b.body) <= $11 THEN b.body END AS body, m.url,
           CASE WHEN m.options ? 'forward' THEN m.headers END AS headers, m.options
    FROM outbox.message m
    CROSS JOIN LATERAL (SELECT coalesce(m.result, convert_to(m.error, 'UTF8'), ''::bytea) AS body) b
    WHERE m.id = c.message_id OFFSET 0
) m
UNION ALL
SELECT NULL, endpoint, due_at, written, 0, 0, '', '', 0, NULL, '', NULL, NULL FROM fresh`

// claimTimeout bounds one claim; it is cut short, and released by its lease, rather than hold up the drain for ever.
const claimTimeout = 10 * time.Second

// claim takes messages; they come in no order. news are the endpoints at which it left something fresh.
func (c *claimer) claim(ctx context.Context, o order) (messages []message, news []found, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("claim took longer than %v", claimTimeout))
	defer cancel()
	began := time.Now()
	since := c.since.Add(-newsBefore)
	var fresh []written
	err = hotBatch(ctx, c.pool, func(b *pgx.Batch) { b.Queue(c.sql, c.args(o, since)...) }, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if rows.RawValues()[0] == nil { // it has no message
				fresh, err = appendRow(fresh, rows, scanWritten)
			} else {
				messages, err = appendRow(messages, rows, scanMessage)
			}
			if err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("claim: %w", err)
	}
	c.since = began
	for i := range messages {
		messages[i].claimedAt = began
	}
	return messages, o.leftOf(fresh, messages, outbox.IDFloor(since)), nil
}

func (c *claimer) args(o order, since time.Time) []any {
	endpoints, from, most := make([]string, len(o.turns)), make([]time.Time, len(o.turns)), make([]int32, len(o.turns))
	for i, t := range o.turns {
		endpoints[i], from[i], most[i] = t.endpoint, t.from, int32(t.most)
	}
	except := o.except
	if except == nil {
		except = []string{} // <> ALL (NULL) is never true
	}
	return append(writtenSince(since), endpoints, from, most, o.most, c.worker, c.lease, max(c.openAfter, 1), claimedBytesMax,
		except, o.fresh)
}

// written is an endpoint that messages were written for.
type written struct {
	found
	n int
}

// leftOf returns the fresh endpoints at which the claim left something: one that had no turn and gave less than was
// written, or one whose turn began later than the time since when something fresh is due there.
func (o order) leftOf(fresh []written, messages []message, floor outbox.ID) (left []found) {
	if len(fresh) == 0 {
		return nil
	}
	from, gave := map[string]time.Time{}, map[string]int{}
	for _, t := range o.turns {
		from[t.endpoint] = t.from
	}
	for i := range messages {
		if bytes.Compare(messages[i].id[:], floor[:]) >= 0 {
			gave[messages[i].endpoint]++
		}
	}
	for _, f := range fresh {
		turn, had := from[f.Endpoint]
		if had && f.Since.Before(turn) || !had && gave[f.Endpoint] < f.n {
			left = append(left, f.found)
		}
	}
	return left
}

func appendRow[T any](to []T, row pgx.CollectableRow, scan pgx.RowToFunc[T]) ([]T, error) {
	t, err := scan(row)
	return append(to, t), err
}

func scanWritten(row pgx.CollectableRow) (w written, err error) {
	err = row.Scan(nil, &w.Endpoint, &w.Since, &w.n, nil, nil, nil, nil, nil, nil, nil, nil, nil)
	return w, err
}

func scanMessage(row pgx.CollectableRow) (m message, err error) {
	err = row.Scan(&m.id, &m.endpoint, &m.dueFrom, &m.attempt, &m.attemptsBefore, &m.endpointMax, &m.runID, &m.status, &m.bodyBytes,
		&m.body, &m.url, &m.headers, &m.options)
	return m, err
}
