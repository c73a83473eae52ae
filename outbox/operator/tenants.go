package operator

import (
	"context"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// TenantStatus counts the waiting and dead messages of a tenant.
type TenantStatus struct {
	Tenant     string     `json:"tenant"`  // "" for messages that name none
	Waiting    int64      `json:"waiting"` // due, in any state
	Retrying   int64      `json:"retrying"`
	Delivering int64      `json:"delivering"`
	Held       int64      `json:"held"` // those of the waiting whose lane is held back now
	Dead       int64      `json:"dead"`
	OldestDue  *time.Time `json:"oldest_due"`

	Estimated     bool `json:"estimated"`      // the counts of due messages: more is due than is counted
	DeadEstimated bool `json:"dead_estimated"` // Dead: more is dead than is counted

	Others int64 `json:"-"` // tenants in all, this one among them
}

// Tenants lists the tenants with waiting or dead messages, first those whose messages have waited longest; limit 0 means all.
// It reads all that is due and dead.
func (s *Store) Tenants(ctx context.Context, limit int) (list []TenantStatus, unlisted int64, err error) {
	knows, err := s.knowsTenants(ctx)
	if err == nil && !knows {
		err = ErrNoTenants
	}
	if err != nil {
		return nil, 0, err
	}
	bounds, err := s.since(ctx, sinceLaneCounts)
	if err != nil {
		return nil, 0, err
	}
	sql := tenantsBefore10
	if bounds {
		sql = `SELECT tenant, waiting, failed_before, delivering, held, dead, ` + sqltime.Bounded("oldest_due") + `, estimated, dead_estimated, pg_catalog.count(*) OVER ()
FROM outbox.tenant_status WHERE ` + ofTenant("tenant", "$2") + ` LIMIT $1::bigint`
	}
	list, err = collect[TenantStatus](ctx, s, "tenants", sql, orNull(limit), orNull(s.tenant))
	if len(list) > 0 {
		unlisted = list[0].Others - int64(len(list))
	}
	return list, unlisted, err
}

// tenantsBefore10 is the view tenant_status on tables that lack it.
var tenantsBefore10 = `WITH lanes AS (
    SELECT endpoint::pg_catalog.text AS lane, pg_catalog.count(*) AS waiting,
           pg_catalog.count(*) FILTER (WHERE attempt OPERATOR(pg_catalog.>) attempts_before) AS retrying,
           pg_catalog.count(*) FILTER (WHERE locked_until OPERATOR(pg_catalog.>) pg_catalog.now()) AS delivering,
           pg_catalog.min(due_at) AS oldest_due
    FROM outbox.due GROUP BY endpoint
),
due AS (
    SELECT pg_catalog.split_part(lane, ' ', 2) AS tenant, pg_catalog.sum(waiting)::bigint AS waiting, pg_catalog.sum(retrying)::bigint AS retrying,
           pg_catalog.sum(delivering)::bigint AS delivering,
           COALESCE(pg_catalog.sum(waiting OPERATOR(pg_catalog.-) delivering) FILTER (
               WHERE EXISTS (SELECT FROM outbox.hold h WHERE h.lane OPERATOR(pg_catalog.=) ANY (outbox.lanes_over(lanes.lane)))), 0)::bigint AS held,
           pg_catalog.min(oldest_due) AS oldest_due
    FROM lanes GROUP BY 1
),
dead AS (
    SELECT COALESCE(m.tenant::pg_catalog.text, '') AS tenant, pg_catalog.count(*) AS dead
    FROM outbox.dead x JOIN outbox.message m ON m.id OPERATOR(pg_catalog.=) x.message_id
    WHERE x.reason OPERATOR(pg_catalog.<>) 'cancelled'::pg_catalog.text GROUP BY 1
)
SELECT COALESCE(due.tenant, dead.tenant), COALESCE(waiting, 0), COALESCE(retrying, 0), COALESCE(delivering, 0), COALESCE(held, 0), COALESCE(dead, 0),
       ` + sqltime.Bounded("oldest_due") + `, false, false, pg_catalog.count(*) OVER ()
FROM due FULL JOIN dead ON due.tenant OPERATOR(pg_catalog.=) dead.tenant
WHERE ` + ofTenant("COALESCE(due.tenant, dead.tenant)", "$2") + `
ORDER BY oldest_due, 1 LIMIT $1::bigint`

// overviewOfTenant is the view outbox.overview for one tenant, without what was delivered.
func (s *Store) overviewOfTenant(ctx context.Context) ([]StateCount, error) {
	bounds, err := s.since(ctx, sinceLaneCounts)
	if err != nil {
		return nil, err
	}
	sql := tenantOverviewBefore10
	if bounds {
		sql = tenantOverview
	}
	return collect[StateCount](ctx, s, "overview", sql, s.tenant)
}

var tenantOverview = `SELECT s.state, COALESCE(s.messages, 0), ` + sqltime.Bounded("s.oldest_due") + `, ` + sqltime.Bounded("s.oldest_in_flight") + `, ` + sqltime.Bounded("s.oldest_lease_until") + `, ` +
	sqltime.Bounded("s.oldest_dead") + `, COALESCE(s.estimated, false)
FROM (SELECT) one LEFT JOIN outbox.tenant_status t ON t.tenant OPERATOR(pg_catalog.=) $1::pg_catalog.text
CROSS JOIN LATERAL (VALUES
    (1, 'pending'::pg_catalog.text, t.pending, t.oldest_pending, NULL::pg_catalog.timestamptz, NULL::pg_catalog.timestamptz, NULL::pg_catalog.timestamptz, t.estimated),
    (2, 'delivering', t.delivering, NULL, t.oldest_in_flight, t.oldest_lease_until, NULL, t.estimated),
    (3, 'retrying', t.retrying, t.oldest_retrying, NULL, NULL, NULL, t.estimated),
    (4, 'dead', t.dead, NULL, NULL, NULL, t.oldest_dead, t.dead_estimated),
    (5, 'cancelled', t.cancelled, NULL, NULL, NULL, t.oldest_cancelled, t.dead_estimated)
) AS s (n, state, messages, oldest_due, oldest_in_flight, oldest_lease_until, oldest_dead, estimated)
ORDER BY s.n`

// tenantOverviewBefore10 reads all that is due and dead.
var tenantOverviewBefore10 = `WITH due AS (
    SELECT CASE WHEN locked_until OPERATOR(pg_catalog.>) pg_catalog.now() THEN 'delivering'
                WHEN attempt OPERATOR(pg_catalog.>) attempts_before THEN 'retrying' ELSE 'pending' END AS state,
           pg_catalog.count(*) AS messages, pg_catalog.min(due_at) AS oldest_due, pg_catalog.min(locked_until) AS oldest_lease_until
    FROM outbox.due WHERE pg_catalog.split_part(endpoint, ' ', 2) OPERATOR(pg_catalog.=) $1::pg_catalog.text GROUP BY 1
),
dead AS (
    SELECT CASE WHEN x.reason OPERATOR(pg_catalog.=) 'cancelled'::pg_catalog.text THEN 'cancelled' ELSE 'dead' END AS state,
           pg_catalog.count(*) AS messages, pg_catalog.min(x.at) AS oldest_dead
    FROM outbox.dead x JOIN outbox.message m ON m.id OPERATOR(pg_catalog.=) x.message_id
    WHERE m.tenant OPERATOR(pg_catalog.=) $1::pg_catalog.text GROUP BY 1
)
SELECT s.state, COALESCE(due.messages, dead.messages, 0), CASE WHEN NOT s.leased THEN ` + sqltime.Bounded("oldest_due") + ` END,
       CASE WHEN s.leased THEN ` + sqltime.Bounded("oldest_due") + ` END, CASE WHEN s.leased THEN ` + sqltime.Bounded("oldest_lease_until") + ` END, ` + sqltime.Bounded("oldest_dead") + `, false
FROM (VALUES ('pending'::pg_catalog.text, false, 1), ('delivering', true, 2), ('retrying', false, 3), ('dead', false, 4), ('cancelled', false, 5)) AS s (state, leased, n)
LEFT JOIN due ON due.state OPERATOR(pg_catalog.=) s.state
LEFT JOIN dead ON dead.state OPERATOR(pg_catalog.=) s.state
ORDER BY s.n`
