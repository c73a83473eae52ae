package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// EndpointStatus is one row of the view outbox.endpoint_status: an endpoint, a tenant at it, or one URL that was set aside.
type EndpointStatus struct {
	Endpoint   string     `json:"endpoint"`
	Retrying   int64      `json:"retrying"`
	Dead       int64      `json:"dead"`    // of all tenants, in the row of the endpoint
	Waiting    int64      `json:"waiting"` // due, in whatever state
	Delivering int64      `json:"delivering"`
	OldestDue  *time.Time `json:"oldest_due"`
	LastDead   *time.Time `json:"last_dead"`
	Paused     bool       `json:"paused"`
	OpenUntil  *time.Time `json:"open_until"` // nothing is sent before this time
	Failures   int        `json:"failures"`   // in a row

	MaxInFlight   *int     `json:"max_in_flight"`   // of each worker, as an operator set it
	RatePerSecond *float64 `json:"rate_per_second"` // of all workers together, as an operator set it

	Reason *string    `json:"reason"`
	Since  *time.Time `json:"since"`

	Tenant *string `json:"tenant"` // nil in the row of the endpoint: of messages without a tenant, and of what bounds all tenants
	URL    *string `json:"url"`    // of a URL that was set aside; nil where none of its messages waits
	Lane   string  `json:"lane"`   // the key of the row, as in outbox.due and outbox.endpoint

	Hold // of its messages: also by what holds back the endpoint, or the tenant at it
}

// EndpointPage are endpoints, and how many were left out.
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

// EndpointPage lists the endpoints that have something waiting, dead or remembered; limit 0 means all. What fails or waits now
// comes first, then what is paused, then what died long ago; on tables older than version 6, the paused come first.
func (s *Store) EndpointPage(ctx context.Context, limit int) (EndpointPage, error) {
	knows, err := s.knowsTenants(ctx)
	if err != nil {
		return EndpointPage{}, fmt.Errorf("endpoints: %w", err)
	}
	var page EndpointPage
	lane, hold := `NULL::pg_catalog.text AS tenant, NULL::pg_catalog.text AS url, endpoint AS lane`, noHold
	if knows {
		lane, hold = `tenant, url, lane`, holdColumnsOf("s.lane")
	}
	rows, err := s.db.Query(ctx, s.in(`SELECT s.endpoint, retrying, dead, waiting, delivering, `+bounded("oldest_due")+`, `+bounded("last_dead")+`, paused, `+
		bounded("open_until")+`, failures, max_in_flight, `+boundedRate+`, reason, `+bounded("since")+`, tenant, url, lane, `+hold+`,
       everything, hurting
FROM (
    SELECT endpoint, retrying, dead, waiting, delivering, oldest_due, last_dead, paused, open_until, failures, max_in_flight, rate_per_second, reason, since,
           `+lane+`, pg_catalog.count(*) OVER () AS everything,
           pg_catalog.count(*) FILTER (WHERE waiting OPERATOR(pg_catalog.>) 0 AND NOT paused) OVER () AS hurting
    FROM outbox.endpoint_status e WHERE `+ofTenant(tenantColumn(knows, "tenant"), "$2")+` LIMIT $1::bigint
) s`), orNull(limit), orNull(s.tenant))
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
	return page, nil
}

func (e *EndpointStatus) fields() []any {
	return append([]any{
		&e.Endpoint, &e.Retrying, &e.Dead, &e.Waiting, &e.Delivering, &e.OldestDue, &e.LastDead, &e.Paused, &e.OpenUntil, &e.Failures,
		&e.MaxInFlight, &e.RatePerSecond, &e.Reason, &e.Since, &e.Tenant, &e.URL, &e.Lane,
	}, e.Hold.fields()...)
}

// boundedRate keeps a rate that somebody wrote by hand, before version 3 of the tables, within what has a form in JSON. NaN
// is greater than every number.
var boundedRate = fmt.Sprintf(`CASE WHEN rate_per_second OPERATOR(pg_catalog.>) %[1]d::double precision THEN %[1]d::double precision
ELSE rate_per_second END`, int(LimitRateMax))
