package operator

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Pause stops all requests to an endpoint, of every tenant, until it is resumed. Requests in flight go on. A store of a tenant
// ([Store.OfTenant]) pauses only that tenant at the endpoint.
func (s *Store) Pause(ctx context.Context, endpoint, reason string) error {
	key, err := s.laneAt(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	sql := `INSERT INTO outbox.endpoint (endpoint, paused, reason) VALUES ($1::pg_catalog.text, true, $2::pg_catalog.text)
ON CONFLICT (endpoint) DO UPDATE SET paused = true, reason = excluded.reason, since = excluded.since`
	wanted, err := s.wantsEvents(ctx)
	if wanted {
		sql = noted(event.EndpointPaused, sql)
	}
	if err == nil {
		_, err = s.db.Exec(ctx, s.in(sql), key, pauseReason(reason))
	}
	if err != nil {
		return fmt.Errorf("pause %s: %w", endpoint, err)
	}
	return nil
}

// ErrNotAside says that no worker has set a URL aside: it has no lane of its own that could be paused or resumed.
var ErrNotAside = errors.New("the URL is not set aside")

// PauseURL stops all requests to a URL that a worker has set aside because it fails, until it is resumed. For any other URL it
// returns [ErrNotAside]: its messages wait with those of its endpoint.
func (s *Store) PauseURL(ctx context.Context, url, reason string) error {
	key, err := s.laneOfURL(ctx, url)
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	sql := `UPDATE outbox.endpoint SET paused = true, reason = $2::pg_catalog.text, since = pg_catalog.statement_timestamp()
WHERE endpoint OPERATOR(pg_catalog.=) $1::pg_catalog.text`
	wanted, err := s.wantsEvents(ctx)
	if err != nil {
		return fmt.Errorf("pause %s: %w", url, err)
	}
	if wanted {
		sql = noted(event.EndpointPaused, sql)
	}
	tag, err := s.db.Exec(ctx, s.in(sql), key, pauseReason(reason))
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotAside
	}
	if err != nil {
		return fmt.Errorf("pause %s: %w", url, err)
	}
	return nil
}

func pauseReason(reason string) string {
	if reason == "" {
		return "paused by an operator"
	}
	return cleantext.Of(reason)
}

// Resumed is what a resume changed.
type Resumed struct {
	Endpoint    bool `json:"endpoint"`     // the endpoint's own row
	Tenants     int  `json:"tenants"`      // tenants at it
	URLs        int  `json:"urls"`         // URLs that were set aside
	StillPaused int  `json:"still_paused"` // tenants that were paused by name, and stay so
}

// Any reports whether there was anything to resume.
func (r Resumed) Any() bool { return r.Endpoint || r.Tenants > 0 || r.URLs > 0 }

// Resume ends what holds an endpoint back: a pause, an open circuit breaker, a Retry-After. It also resumes its tenants and the
// URLs that were set aside, but not a tenant that was paused by name. A store of a tenant ([Store.OfTenant]) resumes the tenant
// at the endpoint, and its URLs. Limits stay.
func (s *Store) Resume(ctx context.Context, endpoint string) (Resumed, error) {
	key, err := s.laneAt(ctx, endpoint)
	if err != nil {
		return Resumed{}, fmt.Errorf("resume: %w", err)
	}
	done, err := s.resume(ctx, key, key+" ", key+"!") // '!' follows the space: all lanes below
	if err != nil {
		return Resumed{}, fmt.Errorf("resume %s: %w", endpoint, err)
	}
	return done, nil
}

// ResumeURL ends what holds back a URL that was set aside. If its endpoint is held back, it still waits for that.
func (s *Store) ResumeURL(ctx context.Context, url string) (Resumed, error) {
	key, err := s.laneOfURL(ctx, url)
	if err != nil {
		return Resumed{}, fmt.Errorf("resume: %w", err)
	}
	done, err := s.resume(ctx, key, key, key)
	if err != nil {
		return Resumed{}, fmt.Errorf("resume %s: %w", url, err)
	}
	return done, nil
}

// resume resumes the lane key, and the lanes from one key up to another. It locks the rows in the same order as the workers.
func (s *Store) resume(ctx context.Context, key, from, to string) (done Resumed, err error) {
	note := ""
	wanted, err := s.wantsEvents(ctx)
	if err != nil {
		return done, err
	}
	if wanted {
		note = resumeNote
	}
	rows, err := s.db.Query(ctx, s.in(`WITH troubled AS MATERIALIZED (
    SELECT endpoint, paused FROM outbox.endpoint
    WHERE (endpoint OPERATOR(pg_catalog.=) $1::pg_catalog.text
           OR endpoint OPERATOR(pg_catalog.>=) $2::pg_catalog.text AND endpoint OPERATOR(pg_catalog.<) $3::pg_catalog.text)
      AND (paused OR open_until IS NOT NULL OR failures OPERATOR(pg_catalog.>) 0)
    ORDER BY endpoint FOR UPDATE
),
lanes AS MATERIALIZED (
    SELECT endpoint::pg_catalog.text, paused AND endpoint OPERATOR(pg_catalog.<>) $1::pg_catalog.text
           AND pg_catalog.split_part(endpoint, ' ', 3) OPERATOR(pg_catalog.=) ''::pg_catalog.text AS stays FROM troubled
),
resumed AS (
    UPDATE outbox.endpoint
    SET paused = false, open_until = NULL, failures = 0, openings = 0, probing = false, reason = 'resumed by an operator', since = pg_catalog.statement_timestamp()
    WHERE endpoint OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT endpoint FROM lanes WHERE NOT stays))
)`+note+`
SELECT endpoint, stays FROM lanes`), key, from, to)
	if err != nil {
		return done, err
	}
	var l string
	var stays bool
	_, err = pgx.ForEachRow(rows, []any{&l, &stays}, func() error {
		switch {
		case stays:
			done.StillPaused++
		case lane.IsURL(l):
			done.URLs++
		case lane.Tenant(l) != "":
			done.Tenants++
		default:
			done.Endpoint = true
		}
		return nil
	})
	return done, err
}

// resumeNote notes a resume once, however many lanes it resumed.
const resumeNote = `,
told AS (
    INSERT INTO outbox.event (kind, lane, reason)
    SELECT 'endpoint.resumed', $1::pg_catalog.text, 'resumed by an operator' WHERE EXISTS (SELECT FROM lanes WHERE NOT stays)
)`

// laneAt is the lane that is paused, resumed or limited at an endpoint.
func (s *Store) laneAt(ctx context.Context, endpoint string) (string, error) {
	if err := checkEndpoint(endpoint); err != nil {
		return "", err
	}
	if s.tenant != "" {
		if _, err := s.knowsTenants(ctx); err != nil {
			return "", err
		}
	}
	return lane.Of(endpoint, s.tenant), nil
}

func (s *Store) laneOfURL(ctx context.Context, url string) (string, error) {
	url, endpoint, err := callback.Normalize(url)
	if err != nil {
		return "", err
	}
	owner, err := s.laneAt(ctx, endpoint)
	return lane.OfURL(owner, url), err
}

// checkEndpoint reports an endpoint that is not in the form of the tables.
func checkEndpoint(endpoint string) error {
	canonical, err := outbox.CheckURL(endpoint)
	if err != nil {
		return fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	if canonical != endpoint {
		return fmt.Errorf("endpoint %q: want the origin of the URL: %q", endpoint, canonical)
	}
	return nil
}

// Limits bound what is sent to one endpoint, or to one tenant at it. Zero fields set no limit.
type Limits struct {
	MaxInFlight   int     // requests at once, of each worker; 1 to LimitInFlightMax
	RatePerSecond float64 // requests begun per second, of all workers together; LimitRateMin to LimitRateMax
}

// Validate reports every limit that is out of its bounds, as [outbox.FieldFaults].
func (l Limits) Validate() error {
	var faults outbox.FieldFaults
	faults.Check(l.MaxInFlight >= 0 && l.MaxInFlight <= LimitInFlightMax, "MaxInFlight", "is %d; want 1 to %d, or 0 for no limit",
		l.MaxInFlight, LimitInFlightMax)
	rate := l.RatePerSecond
	faults.Check(rate == 0 || rate >= LimitRateMin && rate <= LimitRateMax, "RatePerSecond", "is %v; want %v to %d, or 0 for no limit",
		rate, LimitRateMin, int(LimitRateMax))
	return faults.Err()
}

// Limit sets the limits of an endpoint, in place of the earlier ones; the zero value removes them. They bound all its tenants
// together. A store of a tenant ([Store.OfTenant]) limits that tenant at the endpoint. Requests in flight go on.
func (s *Store) Limit(ctx context.Context, endpoint string, l Limits, reason string) error {
	key, err := s.laneAt(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	if err := l.Validate(); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	if reason == "" {
		reason = "limited by an operator"
	}
	_, err = s.db.Exec(ctx, s.in(`INSERT INTO outbox.endpoint (endpoint, max_in_flight, rate_per_second, reason)
VALUES ($1::pg_catalog.text, $2::integer, $3::double precision, $4::pg_catalog.text)
ON CONFLICT (endpoint) DO UPDATE SET max_in_flight = excluded.max_in_flight, rate_per_second = excluded.rate_per_second,
    reason = CASE WHEN outbox.endpoint.paused OR outbox.endpoint.open_until OPERATOR(pg_catalog.>) pg_catalog.now() THEN outbox.endpoint.reason ELSE excluded.reason END`),
		key, orNull(l.MaxInFlight), orNull(l.RatePerSecond), cleantext.Of(reason))
	if err != nil {
		return fmt.Errorf("limit %s: %w", endpoint, err)
	}
	return nil
}

// knowsNewest is how many of the newest messages Known searches.
const knowsNewest = 10_000

// Known reports whether a waiting or dead message, or one of the newest 10 000 messages, goes to an endpoint (or to the tenant
// of the store there). An operator who pauses or limits an unknown endpoint may have mistyped it.
func (s *Store) Known(ctx context.Context, endpoint string) (known bool, err error) {
	key, err := s.laneAt(ctx, endpoint)
	if err == nil {
		var knows bool
		if knows, err = s.knowsTenants(ctx); err == nil {
			err = s.db.QueryRow(ctx, s.in(`SELECT EXISTS (SELECT FROM outbox.due WHERE endpoint OPERATOR(pg_catalog.=) $1::pg_catalog.text
               OR endpoint OPERATOR(pg_catalog.>=) $2::pg_catalog.text AND endpoint OPERATOR(pg_catalog.<) $3::pg_catalog.text)
    OR EXISTS (SELECT FROM (SELECT endpoint, `+tenantColumn(knows, "tenant")+` AS tenant FROM outbox.message ORDER BY id DESC LIMIT $4) m
               WHERE m.endpoint OPERATOR(pg_catalog.=) $5::pg_catalog.text AND `+ofTenant("m.tenant", "$6")+`)
    OR $6::pg_catalog.text IS NULL AND EXISTS (SELECT FROM outbox.dead WHERE endpoint OPERATOR(pg_catalog.=) $5::pg_catalog.text)`),
				key, key+" ", key+"!", knowsNewest, endpoint, orNull(s.tenant)).Scan(&known)
		}
	}
	if err != nil {
		return false, fmt.Errorf("known: %w", err)
	}
	return known, nil
}
