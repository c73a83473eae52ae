package operator

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// cancelBatch bounds one transaction of CancelDue, and with it how long its locks are held.
const cancelBatch = 1000

// CancelDue cancels all due messages of the tenant of the store ([Store.OfTenant]) and returns how many there were, even
// with an error. With an endpoint, it cancels only those at that endpoint; a store of all tenants must name one. It cancels
// only messages that were due when it began, the longest due first; a row that another transaction has
// locked is left.
func (s *Store) CancelDue(ctx context.Context, endpoint, reason string) (cancelled int64, err error) {
	if reason == "" {
		reason = "cancelled by an operator"
	}
	note, wanted := "", false
	lanes, err := s.dueLanes(ctx, endpoint)
	if err == nil {
		if wanted, err = s.wantsEvents(ctx); wanted {
			note = cancelNote
		}
	}
	if err != nil {
		return 0, fmt.Errorf("cancel: %w", err)
	}
	for _, l := range lanes {
		for left := l.due; left > 0; {
			tag, err := s.db.Exec(ctx, s.in(`WITH batch AS MATERIALIZED (
    SELECT message_id FROM outbox.due WHERE endpoint OPERATOR(pg_catalog.=) $1::pg_catalog.text
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT message_id FROM batch)) RETURNING message_id
)`+note+`
INSERT INTO outbox.dead (message_id, endpoint, reason, error)
SELECT message_id, $3::pg_catalog.text, 'cancelled', $4::pg_catalog.text FROM gone
ON CONFLICT (message_id) DO UPDATE SET reason = excluded.reason, error = excluded.error, at = excluded.at`),
				l.name, min(left, cancelBatch), lane.Origin(l.name), cleantext.Of(reason))
			if err != nil {
				return cancelled, fmt.Errorf("cancel: %w", err)
			}
			cancelled += tag.RowsAffected()
			if left -= cancelBatch; tag.RowsAffected() == 0 {
				break
			}
		}
	}
	return cancelled, nil
}

// cancelNote notes what a batch cancelled.
const cancelNote = `,
told AS (
    INSERT INTO outbox.event (kind, lane, n, reason, message_id)
    SELECT 'message.dead', $1::pg_catalog.text, pg_catalog.count(*), 'cancelled', pg_catalog.max(message_id::pg_catalog.text)::pg_catalog.uuid
    FROM gone HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0::bigint
)`

// dueLane is a lane, and how many messages are due in it.
type dueLane struct {
	name string
	due  int64
}

// dueLanes returns the lanes of the tenant, of the endpoint, or of both that have something due.
func (s *Store) dueLanes(ctx context.Context, endpoint string) ([]dueLane, error) {
	switch {
	case endpoint != "":
		if err := checkEndpoint(endpoint); err != nil {
			return nil, err
		}
	case s.tenant == "":
		return nil, fmt.Errorf("name an endpoint, or a tenant")
	}
	if _, err := s.knowsTenants(ctx); err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, s.in(`SELECT endpoint::pg_catalog.text, pg_catalog.count(*) FROM outbox.due
WHERE ($1::pg_catalog.text IS NULL OR pg_catalog.split_part(endpoint, ' ', 1) OPERATOR(pg_catalog.=) $1::pg_catalog.text)
  AND `+ofTenant("pg_catalog.split_part(endpoint, ' ', 2)", "$2")+` GROUP BY endpoint`), orNull(endpoint), orNull(s.tenant))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l dueLane, err error) {
		err = row.Scan(&l.name, &l.due)
		return l, err
	})
}
