package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// ErrNoURL says that a message has no URL that can be delivered to; a replay must name one.
var ErrNoURL = errors.New("has no URL that can be delivered to; name one")

// Replayed is the result of one replay.
type Replayed struct {
	ID  outbox.ID `json:"id"`  // the message asked for
	New outbox.ID `json:"new"` // the message that will be delivered: the same, or its copy for another URL
}

// Replay makes messages due at once: dead, cancelled or delivered ones, or those that wait for their next attempt. Their ids
// stay, so that a receiver can drop the repeat. The numbers of attempts continue, and the retry schedule begins again.
//
// With a URL, each message is copied to it under a new id, and the old one is closed as cancelled; it must not be due any more.
// All of this happens in one transaction. An error names every message that cannot be replayed, and nothing has changed.
func (s *Store) Replay(ctx context.Context, ids []outbox.ID, url string) ([]Replayed, error) {
	endpoint := ""
	if url != "" {
		var err error
		if url, endpoint, err = callback.Normalize(url); err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
	}
	var done []Replayed
	err := s.operate(ctx, "replay", ids, nil, func(tx pgx.Tx, m subject) error {
		if err := m.checkReplay(url); err != nil {
			return err
		}
		if url == "" {
			done = append(done, Replayed{ID: m.ID, New: m.ID})
			return s.dueAgain(ctx, tx, m)
		}
		copied := outbox.NewID()
		done = append(done, Replayed{ID: m.ID, New: copied})
		return s.copyTo(ctx, tx, m, copied, url, endpoint)
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// Cancel cancels messages that are still due. A request in flight goes on, but its answer no longer changes anything. Nothing is
// changed when one of the messages is not due.
func (s *Store) Cancel(ctx context.Context, ids []outbox.ID, reason string) error {
	if reason == "" {
		reason = "cancelled by an operator"
	}
	wanted, err := s.wantsEvents(ctx)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	var done cancelled
	note := func(tx pgx.Tx) error {
		if !wanted {
			return nil
		}
		return done.note(ctx, s, tx)
	}
	return s.operate(ctx, "cancel", ids, note, func(tx pgx.Tx, m subject) error {
		if !m.due() {
			return fault{fmt.Sprintf("is %s; only what is due can be cancelled", m.State), nil}
		}
		done.add(lane.Of(m.Endpoint, m.Tenant), m.ID)
		return s.close(ctx, tx, m.ID, reason)
	})
}

// subject is what an operation needs to know of a message.
type subject struct {
	ID       outbox.ID
	State    outbox.State
	Endpoint string
	Tenant   string
	Kept     bool // the result is there, or the message has none
	Attempts int
}

func (m subject) due() bool {
	return m.State == outbox.StatePending || m.State == outbox.StateDelivering || m.State == outbox.StateRetrying
}

func (m subject) checkReplay(url string) error {
	switch {
	case !m.Kept:
		return fault{fmt.Sprintf("cannot be replayed: its result was over %d bytes and was not kept", outbox.ResultBytesKept), nil}
	case m.State == outbox.StateDelivering:
		return fault{"is being delivered now; wait for its answer, or cancel it first", nil}
	case url != "" && m.due():
		return fault{fmt.Sprintf("is %s; cancel it before it is replayed to another URL", m.State), nil}
	case url != "" && event.IsLane(m.Endpoint):
		return fault{"is an event, which goes to the workers' URL for events and nowhere else", nil}
	case url == "" && m.Endpoint == "":
		return fault{"", ErrNoURL}
	}
	return nil
}

// fault is why one message cannot be changed, in contrast to an error of the database.
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

// operate runs f for each message, in one transaction and in the order of their ids, with the due row locked against claims. It
// collects faults, and changes nothing when there are any.
func (s *Store) operate(ctx context.Context, what string, ids []outbox.ID, end func(pgx.Tx) error, f func(pgx.Tx, subject) error) error {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b outbox.ID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	knows, err := s.knowsTenants(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var faults []error
		for _, id := range ids {
			m, err := s.lock(ctx, tx, id, knows)
			if err == nil {
				err = f(tx, m)
			}
			var inTheWay fault
			switch {
			case errors.As(err, &inTheWay):
				faults = append(faults, fmt.Errorf("message %s %w", id, err))
			case err != nil:
				return err // of the database: the transaction cannot go on
			}
		}
		if len(faults) > 0 || end == nil {
			return errors.Join(faults...)
		}
		return end(tx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) lock(ctx context.Context, tx pgx.Tx, id outbox.ID, knowsTenants bool) (subject, error) {
	for _, sql := range []string{
		`SELECT FROM outbox.message WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid FOR KEY SHARE`,  // against retention
		`SELECT FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid FOR UPDATE`, // against claims and records
	} {
		if _, err := tx.Exec(ctx, s.in(sql), id); err != nil {
			return subject{}, err
		}
	}
	m := subject{ID: id}
	err := tx.QueryRow(ctx, s.in(`SELECT s.state, s.endpoint, m.result IS NOT NULL OR m.status OPERATOR(pg_catalog.<>) 'succeeded'::pg_catalog.text, s.attempts,
       COALESCE(`+tenantColumn(knowsTenants, "s.tenant")+`, '')
FROM outbox.status s JOIN outbox.message m ON m.id OPERATOR(pg_catalog.=) s.id WHERE s.id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`), id).
		Scan(&m.State, &m.Endpoint, &m.Kept, &m.Attempts, &m.Tenant)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && s.tenant != "" && m.Tenant != s.tenant {
		return m, fault{"is not there: ", ErrNotFound}
	}
	return m, err
}

// dueAgain makes a message due in the lane of its tenant. One that is due already stays in its lane, which may be that of its
// URL.
func (s *Store) dueAgain(ctx context.Context, tx pgx.Tx, m subject) error {
	if _, err := tx.Exec(ctx, s.in(`DELETE FROM outbox.dead WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`), m.ID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.in(`INSERT INTO outbox.due (message_id, endpoint, attempt, attempts_before) VALUES ($1::pg_catalog.uuid, $2::pg_catalog.text, $3::integer, $3::integer)
ON CONFLICT (message_id) DO UPDATE SET due_at = pg_catalog.statement_timestamp(), attempts_before = outbox.due.attempt`),
		m.ID, lane.Of(m.Endpoint, m.Tenant), m.Attempts)
	return err
}

func (s *Store) copyTo(ctx context.Context, tx pgx.Tx, m subject, copied outbox.ID, url, endpoint string) error {
	tenant := ""
	if m.Tenant != "" { // without a tenant, the tables may lack the column
		tenant = ", tenant"
	}
	_, err := tx.Exec(ctx, s.in(`WITH m AS (
INSERT INTO outbox.message (id, run_id, status, result, error, headers, final_step, url, endpoint, options, replay_of`+tenant+`)
SELECT $2::pg_catalog.uuid, run_id, status, result, error, headers, final_step, $3::pg_catalog.text, $4::pg_catalog.text, options, id`+tenant+`
FROM outbox.message WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid
RETURNING id)
INSERT INTO outbox.due (message_id, endpoint) SELECT id, $5::pg_catalog.text FROM m`), m.ID, copied, url, endpoint, lane.Of(endpoint, m.Tenant))
	if err != nil || m.State == outbox.StateDelivered {
		return err // a delivered message stays delivered
	}
	return s.close(ctx, tx, m.ID, "replayed to another URL as message "+copied.String())
}

// close moves a message to dead as cancelled, from any state.
func (s *Store) close(ctx context.Context, tx pgx.Tx, id outbox.ID, reason string) error {
	if _, err := tx.Exec(ctx, s.in(`DELETE FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`), id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.in(`INSERT INTO outbox.dead (message_id, endpoint, reason, error)
SELECT id, endpoint, 'cancelled', $2::pg_catalog.text FROM outbox.message WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid
ON CONFLICT (message_id) DO UPDATE SET reason = excluded.reason, error = excluded.error, at = excluded.at`), id, cleantext.Of(reason))
	return err
}

// orNull is NULL for the zero value.
func orNull[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
