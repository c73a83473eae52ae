package operator

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// sinceKinds is the first version of the tables with kinds of messages and tables for events.
const sinceKinds = 9

// KindEvent is the kind of a message that tells an operator what happened; an outcome has none. Who handles outcomes only leaves
// out the messages whose [MessageStatus.Kind] it is.
const KindEvent = "event"

// eventsWantedFor is how long after a worker with a URL for events was last seen the store still notes events.
const eventsWantedFor = `'7 days'::interval`

// wantsEvents reports whether a worker will send what is noted, and this session's role may note it. The store does not know the
// URL: a worker makes a message of each note. Without such a worker, nothing is noted.
func (s *Store) wantsEvents(ctx context.Context) (wants bool, err error) {
	version, err := s.version(ctx)
	if err != nil || version < sinceKinds {
		return false, err
	}
	err = s.db.QueryRow(ctx, s.in(`SELECT pg_catalog.has_table_privilege('outbox.event_wanted'::pg_catalog.text, 'SELECT'::pg_catalog.text)
    AND pg_catalog.has_table_privilege('outbox.event'::pg_catalog.text, 'INSERT'::pg_catalog.text)`)).Scan(&wants)
	if err == nil && wants { // a query of its own: Postgres checks privileges before it looks for a row
		err = s.db.QueryRow(ctx, s.in(`SELECT EXISTS (SELECT FROM outbox.event_wanted
WHERE seen OPERATOR(pg_catalog.>) (pg_catalog.now() OPERATOR(pg_catalog.-) `+eventsWantedFor+`))`)).Scan(&wants)
	}
	if err != nil {
		return false, fmt.Errorf("who wants events: %w", err)
	}
	return wants, nil
}

// noted is a statement that changes lanes, and notes an event for each; both happen or neither. changes returns endpoint and reason.
func noted(kind event.Kind, changes string) string {
	return `WITH changed AS (
` + changes + ` RETURNING endpoint::pg_catalog.text AS lane, reason
)
INSERT INTO outbox.event (kind, lane, reason) SELECT '` + string(kind) + `', lane, reason FROM changed`
}

// cancelled counts what a cancel cancelled, by lane.
type cancelled struct {
	n    map[string]int64
	last map[string]outbox.ID
}

func (c *cancelled) add(name string, id outbox.ID) {
	if c.n == nil {
		c.n, c.last = map[string]int64{}, map[string]outbox.ID{}
	}
	if !event.IsLane(name) {
		c.n[name]++
		c.last[name] = id
	}
}

// note writes the notes in the transaction of the cancel.
func (c *cancelled) note(ctx context.Context, s *Store, tx pgx.Tx) error {
	for name, n := range c.n {
		_, err := tx.Exec(ctx, s.in(`INSERT INTO outbox.event (kind, lane, n, reason, message_id)
VALUES ($1::pg_catalog.text, $2::pg_catalog.text, $3::bigint, 'cancelled', $4::pg_catalog.uuid)`), string(event.MessageDead), name, n, c.last[name])
		if err != nil {
			return err
		}
	}
	return nil
}
