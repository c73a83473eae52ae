package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

// Mover moves messages of URLs that were set aside into the lanes of these URLs, so that they do not delay others
// (package lane). When a sender meets such a message, that one is moved by the record; a Mover moves the others of its lane.
type Mover struct {
	db          *DB
	move, aside string
}

// NewMover returns a mover of a schema.
func NewMover(db *DB, schema string) *Mover {
	return &Mover{db: db, move: sqlschema.In(moveAheadSQL, schema), aside: sqlschema.In(asideURLsSQL, schema)}
}

const (
	// MoveMax is how many messages one move looks at.
	MoveMax = 1000

	// asideMax bounds how many URLs that are set aside a worker knows: the latest ones.
	asideMax = 10_000

	moveTimeout = 10 * time.Second
)

// The name of a URL's lane is made as lane.OfURL makes it.
const moveAheadSQL = `WITH ahead AS MATERIALIZED (
    SELECT d.message_id, d.endpoint FROM outbox.due d
    WHERE d.endpoint = $2 AND ` + claimable + `
    ORDER BY d.due_at LIMIT $4 FOR UPDATE SKIP LOCKED
),
named AS MATERIALIZED (
    SELECT a.message_id, a.endpoint || CASE WHEN strpos(a.endpoint, ' ') = 0 THEN '  #' ELSE ' #' END || m.hash AS endpoint
    FROM ahead a CROSS JOIN LATERAL (
        SELECT encode(substr(sha256(convert_to(m.url, 'UTF8')), 1, 8), 'hex') AS hash FROM outbox.message m WHERE m.id = a.message_id OFFSET 0
    ) m
),
moved AS (
    UPDATE outbox.due d SET endpoint = n.endpoint FROM named n
    WHERE d.message_id = ANY (ARRAY[n.message_id]) AND n.endpoint = ANY ($3::text[])
    RETURNING d.message_id
)
SELECT (SELECT count(*) FROM ahead)::integer, (SELECT count(*) FROM moved)::integer`

// asideURLsSQL uses the index endpoint_url, which holds only the lanes of URLs.
const asideURLsSQL = `SELECT e.endpoint::text FROM outbox.endpoint e
WHERE split_part(e.endpoint, ' ', 3) <> '' AND (e.failures >= $1 OR e.open_until > now())
ORDER BY e.since DESC LIMIT $2`

// MoveAhead looks at the first MoveMax messages that are due in a lane, and moves those of URLs that are set aside into the URLs'
// lanes. more reports that it looked at MoveMax and moved some: the caller calls again.
func (m *Mover) MoveAhead(ctx context.Context, from string, aside []string) (more bool, err error) {
	var ahead, moved int
	err = within(ctx, "move messages of a URL that was set aside", moveTimeout, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) { b.Queue(m.move, m.db.deadOwners(), from, aside, MoveMax) }
		return hotBatchUnder(ctx, m.db, recordSettings, queue, func(results pgx.BatchResults) error {
			return results.QueryRow().Scan(&ahead, &moved)
		})
	})
	return ahead == MoveMax && moved > 0, err
}

// Aside returns the lanes of all URLs that are set aside: they are held back, or failed openAfter times in a row.
func (m *Mover) Aside(ctx context.Context, openAfter int) (lanes []string, err error) {
	err = within(ctx, "read which URLs are set aside", moveTimeout, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) { b.Queue(m.aside, openAfter, asideMax) }
		return hotBatch(ctx, m.db, queue, func(results pgx.BatchResults) (err error) {
			lanes, err = collect(results, pgx.RowTo[string])
			return err
		})
	})
	return lanes, err
}
