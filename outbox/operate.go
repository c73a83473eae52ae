package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Replayed tells what one replay did.
type Replayed struct {
	ID  ID `json:"id"`  // the message asked for
	New ID `json:"new"` // the message that will be delivered: the same, or its copy for another URL
}

// Replay makes messages due at once, whether dead, cancelled, delivered or waiting for their next attempt. Their ids
// stay, so a receiver that did get one can drop the repeat; their attempts go on counting, and the retry schedule
// begins anew.
//
// With a URL, each message is copied to it under an id of its own and the old one is closed as cancelled; then it must
// not be due any more. All happens in one transaction: an error names every message that is in the way, and nothing
// was changed.
func (s *Store) Replay(ctx context.Context, ids []ID, url string) ([]Replayed, error) {
	endpoint := ""
	if url != "" {
		var err error
		if url, endpoint, err = NormalizeURL(url); err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
	}
	var done []Replayed
	err := s.operate(ctx, "replay", ids, func(tx pgx.Tx, m subject) error {
		if err := m.checkReplay(url); err != nil {
			return err
		}
		if url == "" {
			done = append(done, Replayed{ID: m.ID, New: m.ID})
			return s.dueAgain(ctx, tx, m)
		}
		copied := NewID()
		done = append(done, Replayed{ID: m.ID, New: copied})
		return s.copyTo(ctx, tx, m, copied, url, endpoint)
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// Cancel gives up messages that are still due. The request of one that is being delivered is not torn down, but its
// answer changes nothing any more. Nothing is changed when one of the messages is not due.
func (s *Store) Cancel(ctx context.Context, ids []ID, reason string) error {
	if reason == "" {
		reason = "cancelled by an operator"
	}
	return s.operate(ctx, "cancel", ids, func(tx pgx.Tx, m subject) error {
		if !m.due() {
			return fault{fmt.Sprintf("is %s; only what is due can be cancelled", m.State), nil}
		}
		return s.close(ctx, tx, m.ID, reason)
	})
}

// subject is what an operation needs to know of a message.
type subject struct {
	ID       ID
	State    State
	Endpoint string
	Kept     bool // the result is there, or there is none to be
	Attempts int
}

func (m subject) due() bool {
	return m.State == StatePending || m.State == StateDelivering || m.State == StateRetrying
}

func (m subject) checkReplay(url string) error {
	switch {
	case !m.Kept:
		return fault{fmt.Sprintf("cannot be replayed: its result was over %d bytes and was not kept", ResultBytesKept), nil}
	case m.State == StateDelivering:
		return fault{"is being delivered now; wait for its answer, or cancel it first", nil}
	case url != "" && m.due():
		return fault{fmt.Sprintf("is %s; cancel it before it is replayed to another URL", m.State), nil}
	case url == "" && m.Endpoint == "":
		return fault{"has no URL that can be delivered to; name one (--url)", nil}
	}
	return nil
}

// fault is what keeps one message from being operated on, as against a fault of the database.
type fault struct {
	text string
	err  error
}

func (f fault) Error() string {
	if f.err != nil {
		return f.text + f.err.Error()
	}
	return f.text
}

func (f fault) Unwrap() error { return f.err }

// operate runs f for each message, in one transaction and in the order of their ids, with the due row locked against
// claims. Faults are collected; with any, nothing is changed.
func (s *Store) operate(ctx context.Context, what string, ids []ID, f func(pgx.Tx, subject) error) error {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var faults []error
		for _, id := range ids {
			m, err := s.lock(ctx, tx, id)
			if err == nil {
				err = f(tx, m)
			}
			var inTheWay fault
			switch {
			case errors.As(err, &inTheWay):
				faults = append(faults, fmt.Errorf("message %s %w", id, err))
			case err != nil:
				return err // the database's: the transaction is of no further use
			}
		}
		return errors.Join(faults...)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) lock(ctx context.Context, tx pgx.Tx, id ID) (subject, error) {
	for _, sql := range []string{
		`SELECT FROM outbox.message WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid FOR KEY SHARE`,  // against retention
		`SELECT FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid FOR UPDATE`, // against claims and records
	} {
		if _, err := tx.Exec(ctx, s.in(sql), id); err != nil {
			return subject{}, err
		}
	}
	m := subject{ID: id}
	err := tx.QueryRow(ctx, s.in(`SELECT s.state, s.endpoint, m.result IS NOT NULL OR m.status OPERATOR(pg_catalog.<>) 'succeeded'::pg_catalog.text, s.attempts
FROM outbox.status s JOIN outbox.message m ON m.id OPERATOR(pg_catalog.=) s.id WHERE s.id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`), id).Scan(&m.State, &m.Endpoint, &m.Kept, &m.Attempts)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, fault{"is not there: ", ErrNotFound}
	}
	return m, err
}

func (s *Store) dueAgain(ctx context.Context, tx pgx.Tx, m subject) error {
	if _, err := tx.Exec(ctx, s.in(`DELETE FROM outbox.dead WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`), m.ID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.in(`INSERT INTO outbox.due (message_id, endpoint, attempt, attempts_before) VALUES ($1::pg_catalog.uuid, $2::pg_catalog.text, $3::integer, $3::integer)
ON CONFLICT (message_id) DO UPDATE SET due_at = pg_catalog.statement_timestamp(), attempts_before = outbox.due.attempt`),
		m.ID, m.Endpoint, m.Attempts)
	return err
}

func (s *Store) copyTo(ctx context.Context, tx pgx.Tx, m subject, copied ID, url, endpoint string) error {
	_, err := tx.Exec(ctx, s.in(`WITH m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, replay_of)
SELECT $2::pg_catalog.uuid, run_id, status, result, error, headers, final_step, $3::pg_catalog.text, $4::pg_catalog.text, options, id
FROM outbox.message WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid
RETURNING id, endpoint)
INSERT INTO outbox.due (message_id, endpoint) SELECT id, endpoint FROM m`), m.ID, copied, url, endpoint)
	if err != nil || m.State == StateDelivered {
		return err // a delivered message stays delivered
	}
	return s.close(ctx, tx, m.ID, "replayed to another URL as message "+copied.String())
}

// close moves a message to dead as cancelled, from wherever it was.
func (s *Store) close(ctx context.Context, tx pgx.Tx, id ID, reason string) error {
	if _, err := tx.Exec(ctx, s.in(`DELETE FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`), id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.in(`INSERT INTO outbox.dead (message_id, endpoint, reason, error)
SELECT id, endpoint, 'cancelled', $2::pg_catalog.text FROM outbox.message WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid
ON CONFLICT (message_id) DO UPDATE SET reason = excluded.reason, error = excluded.error, at = excluded.at`), id, cleanText(reason))
	return err
}

// Pause lets nothing be sent to an endpoint until it is resumed. Requests already under way go on.
func (s *Store) Pause(ctx context.Context, endpoint, reason string) error {
	if err := checkEndpoint(endpoint); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	if reason == "" {
		reason = "paused by an operator"
	}
	_, err := s.db.Exec(ctx, s.in(`INSERT INTO outbox.endpoint (endpoint, paused, reason) VALUES ($1::pg_catalog.text, true, $2::pg_catalog.text)
ON CONFLICT (endpoint) DO UPDATE SET paused = true, reason = excluded.reason, since = excluded.since`), endpoint, cleanText(reason))
	if err != nil {
		return fmt.Errorf("pause %s: %w", endpoint, err)
	}
	return nil
}

// Resume lets an endpoint be sent to again at once, whether it was paused, opened after failures, or asked to be left
// alone for a while. Its limits stay. It reports whether there was anything to resume.
func (s *Store) Resume(ctx context.Context, endpoint string) (bool, error) {
	if err := checkEndpoint(endpoint); err != nil {
		return false, fmt.Errorf("resume: %w", err)
	}
	tag, err := s.db.Exec(ctx, s.in(`UPDATE outbox.endpoint
SET paused = false, open_until = NULL, failures = 0, openings = 0, probing = false, reason = 'resumed by an operator', since = pg_catalog.statement_timestamp()
WHERE endpoint OPERATOR(pg_catalog.=) $1::pg_catalog.text AND (paused OR open_until IS NOT NULL OR failures OPERATOR(pg_catalog.>) 0)`), endpoint)
	if err != nil {
		return false, fmt.Errorf("resume %s: %w", endpoint, err)
	}
	return tag.RowsAffected() > 0, nil
}

// checkEndpoint wants the endpoint as the tables hold it.
func checkEndpoint(endpoint string) error {
	canonical, err := CheckURL(endpoint)
	if err != nil {
		return fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	if canonical != endpoint {
		return fmt.Errorf("endpoint %q: want the origin of the URL: %q", endpoint, canonical)
	}
	return nil
}

// Limits bound what is sent to one endpoint. Zero fields set no limit.
type Limits struct {
	MaxInFlight   int     // requests at once, of each worker; 1 to LimitInFlightMax
	RatePerSecond float64 // requests begun per second, of all workers together; LimitRateMin to LimitRateMax
}

// Validate reports every limit that is out of its bounds.
func (l Limits) Validate() error {
	var faults []error
	if l.MaxInFlight < 0 || l.MaxInFlight > LimitInFlightMax {
		faults = append(faults, fmt.Errorf("MaxInFlight is %d; want 1 to %d, or 0 for no limit", l.MaxInFlight, LimitInFlightMax))
	}
	if rate := l.RatePerSecond; rate != 0 && !(rate >= LimitRateMin && rate <= LimitRateMax) { // so written, NaN is refused
		faults = append(faults, fmt.Errorf("RatePerSecond is %v; want %v to %d, or 0 for no limit", rate, LimitRateMin, int(LimitRateMax)))
	}
	return errors.Join(faults...)
}

// Limit sets an endpoint's limits, in place of those it had; the zero value takes them away. Requests already under way
// go on.
func (s *Store) Limit(ctx context.Context, endpoint string, l Limits, reason string) error {
	if err := checkEndpoint(endpoint); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	if err := l.Validate(); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	if reason == "" {
		reason = "limited by an operator"
	}
	_, err := s.db.Exec(ctx, s.in(`INSERT INTO outbox.endpoint (endpoint, max_in_flight, rate_per_second, reason)
VALUES ($1::pg_catalog.text, $2::integer, $3::double precision, $4::pg_catalog.text)
ON CONFLICT (endpoint) DO UPDATE SET max_in_flight = excluded.max_in_flight, rate_per_second = excluded.rate_per_second,
    reason = CASE WHEN outbox.endpoint.paused THEN outbox.endpoint.reason ELSE excluded.reason END`),
		endpoint, orNull(l.MaxInFlight), orNull(l.RatePerSecond), cleanText(reason))
	if err != nil {
		return fmt.Errorf("limit %s: %w", endpoint, err)
	}
	return nil
}

// orNull is NULL for the zero value.
func orNull[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
