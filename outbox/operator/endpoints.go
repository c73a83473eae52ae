package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// EndpointStatus is one row of the view outbox.endpoint_status: an endpoint, a tenant at it, or one URL that was set aside.
type EndpointStatus struct {
	Endpoint   string     `json:"endpoint"`
	Retrying   int64      `json:"retrying"`
	Dead       int64      `json:"dead"`    // of all tenants, in the row of the endpoint
	Waiting    int64      `json:"waiting"` // due, in any state
	Delivering int64      `json:"delivering"`
	OldestDue  *time.Time `json:"oldest_due"`
	LastDead   *time.Time `json:"last_dead"`
	Paused     bool       `json:"paused"`
	OpenUntil  *time.Time `json:"open_until"` // nothing is sent before this time
	Failures   int        `json:"failures"`   // in a row

	MaxInFlight   *int     `json:"max_in_flight"`   // an operator's limit for each worker
	RatePerSecond *float64 `json:"rate_per_second"` // an operator's limit for all workers together

	Reason *string    `json:"reason"`
	Since  *time.Time `json:"since"`

	Tenant *string `json:"tenant"` // nil in the row of the endpoint, which is about messages without a tenant and about limits of all tenants
	URL    *string `json:"url"`    // the URL that was set aside; nil where none of its messages waits
	Lane   string  `json:"lane"`   // the key of the row, as in outbox.due and outbox.endpoint

	Estimated     bool `json:"estimated"`      // Waiting, Retrying and Delivering: more is due than is counted
	DeadEstimated bool `json:"dead_estimated"` // Dead: more is dead than is counted

	Hold // of its messages, also when the endpoint or the tenant there is held back
}

// EndpointPage is a list of endpoints, and how many were left out.
type EndpointPage struct {
	Endpoints []EndpointStatus
	Unlisted  int64 // endpoints, tenants and URLs that the limit cut off
	Hurting   int64 // how many of them fail or wait now
}

// Endpoints lists what [Store.EndpointPage] does; limit 0 means all.
func (s *Store) Endpoints(ctx context.Context, limit int) ([]EndpointStatus, error) {
	page, err := s.EndpointPage(ctx, limit)
	return page.Endpoints, err
}

// EndpointPage lists the endpoints that have waiting or dead messages, or a row of their own; limit 0 means all. Those that
// fail or wait now come first, then the paused ones, then those whose messages died long ago. On tables older than version 6,
// the paused come first.
//
// Beyond 100 000 messages due or dead, counts are estimates, as the view's are. For the first 100 endpoints of the page,
// EndpointPage counts what waits again, where that is at most 1 000. It never reads all that is due.
func (s *Store) EndpointPage(ctx context.Context, limit int) (EndpointPage, error) {
	knows, err := s.knowsTenants(ctx)
	if err != nil {
		return EndpointPage{}, fmt.Errorf("endpoints: %w", err)
	}
	bounds, err := s.since(ctx, sinceLaneCounts)
	if err != nil {
		return EndpointPage{}, fmt.Errorf("endpoints: %w", err)
	}
	var page EndpointPage
	rows, err := s.db.Query(ctx, s.in(endpointPageSQL(knows, bounds)), orNull(limit), orNull(s.tenant))
	if err != nil {
		return page, fmt.Errorf("endpoints: %w", err)
	}
	page.Endpoints, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e EndpointStatus, err error) {
		err = row.Scan(append(e.fields(), &page.Unlisted, &page.Hurting)...)
		return e, err
	})
	if err != nil {
		return page, fmt.Errorf("endpoints: %w", err)
	}
	for _, e := range page.Endpoints {
		page.Unlisted--
		if e.Waiting > 0 && !e.Paused {
			page.Hurting--
		}
	}
	page.Hurting = min(page.Hurting, page.Unlisted) // messages that were counted again may have been delivered meanwhile
	return page, nil
}

// endpointPageSQL lists the first $1 endpoints, of the tenant $2, on tables that know tenants, and count within bounds.
func endpointPageSQL(knowsTenants, bounds bool) string {
	lane, hold := `NULL::pg_catalog.text AS tenant, NULL::pg_catalog.text AS url, endpoint AS lane`, noHold
	if knowsTenants {
		lane, hold = `tenant, url, lane`, holdColumnsOf("s.lane")
	}
	estimates, retrying, waiting, delivering, estimated, recount := `false AS estimated, false AS dead_estimated`, `s.retrying`, `s.waiting`, `s.delivering`, `false`, ``
	if bounds {
		estimates, recount = `estimated, dead_estimated`, recountSQL
		retrying, waiting, delivering = recounted(`retrying`), recounted(`waiting`), recounted(`delivering`)
		estimated = `s.estimated AND NOT COALESCE(x.complete, false)`
	}
	return `SELECT s.endpoint, ` + retrying + `, s.dead, ` + waiting + `, ` + delivering + `, ` + sqltime.Bounded("oldest_due") + `, ` + sqltime.Bounded("last_dead") + `, paused, ` +
		sqltime.Bounded("open_until") + `, failures, max_in_flight, ` + boundedRate + `, reason, ` + sqltime.Bounded("since") + `, tenant, url, lane, ` + estimated + `, dead_estimated, ` + hold + `,
       everything, hurting
FROM (
    SELECT endpoint, retrying, dead, waiting, delivering, oldest_due, last_dead, paused, open_until, failures, max_in_flight, rate_per_second, reason, since,
           ` + lane + `, ` + estimates + `, pg_catalog.count(*) OVER () AS everything,
           pg_catalog.count(*) FILTER (WHERE waiting OPERATOR(pg_catalog.>) 0 AND NOT paused) OVER () AS hurting, pg_catalog.row_number() OVER () AS n
    FROM outbox.endpoint_status e WHERE ` + ofTenant(tenantColumn(knowsTenants, "tenant"), "$2") + ` LIMIT $1::bigint
) s` + recount + ` ORDER BY s.n`
}

// How many endpoints EndpointPage counts again, and how many messages at each.
const (
	exactLanes    = 100
	exactMessages = 1000
)

// recountSQL counts what is due in the lanes of s whose counts are estimates. If there is more than it counts, the estimate stays.
var recountSQL = fmt.Sprintf(`
LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) AS waiting, pg_catalog.count(*) OPERATOR(pg_catalog.<=) %[1]d AS complete,
           pg_catalog.count(*) FILTER (WHERE d.locked_until OPERATOR(pg_catalog.>) pg_catalog.now()) AS delivering,
           pg_catalog.count(*) FILTER (WHERE d.attempt OPERATOR(pg_catalog.>) (d.attempts_before OPERATOR(pg_catalog.+)
               CASE WHEN d.locked_until OPERATOR(pg_catalog.>) pg_catalog.now() THEN 1 ELSE 0 END)) AS retrying
    FROM (SELECT attempt, attempts_before, locked_until FROM outbox.due WHERE endpoint OPERATOR(pg_catalog.=) s.lane LIMIT %[2]d) d
) x ON s.estimated AND s.n OPERATOR(pg_catalog.<=) %[3]d`, exactMessages, exactMessages+1, exactLanes)

func recounted(column string) string {
	return `CASE WHEN x.complete THEN x.` + column + ` ELSE s.` + column + ` END`
}

func (e *EndpointStatus) fields() []any {
	return append([]any{
		&e.Endpoint, &e.Retrying, &e.Dead, &e.Waiting, &e.Delivering, &e.OldestDue, &e.LastDead, &e.Paused, &e.OpenUntil, &e.Failures,
		&e.MaxInFlight, &e.RatePerSecond, &e.Reason, &e.Since, &e.Tenant, &e.URL, &e.Lane, &e.Estimated, &e.DeadEstimated,
	}, e.Hold.fields()...)
}

// boundedRate keeps a rate within what JSON can express: somebody may have written another one before version 3 of the
// tables. NaN is greater than every number.
var boundedRate = fmt.Sprintf(`CASE WHEN rate_per_second OPERATOR(pg_catalog.>) %[1]d::double precision THEN %[1]d::double precision
ELSE rate_per_second END`, int(LimitRateMax))
