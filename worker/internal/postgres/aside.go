package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Aside is what a claim set aside, so that the others could be claimed.
type Aside struct {
	What     string      // one of the Aside constants
	IDs      []outbox.ID // messages; none when it is an endpoint
	Endpoint string
	Reason   string
}

// What is in an Aside.
const (
	AsidePoison  = "poison"   // the message is dead, for this reason
	AsidePaused  = "paused"   // the endpoint is paused
	AsideExpired = "expired"  // the messages are dead: they have expired
	AsideRemoved = "removed"  // rows of due whose message is gone are removed
	AsideLeftOut = "left out" // nothing could be written; this process leaves it out for a while
)

// poisonSQL moves a row of due to dead: one that this worker leased, or that nobody did. When its message is gone, it is
// only removed.
const poisonSQL = poisonUpToEnd + `
SELECT message_id FROM gone`

const poisonUpToEnd = `WITH gone AS (
    DELETE FROM outbox.due d
    WHERE d.message_id = ANY (ARRAY[$2::text::uuid]) AND (d.locked_by = $4 OR ` + claimable + `)
    RETURNING d.message_id, d.endpoint
),
buried AS (
    INSERT INTO outbox.dead (message_id, endpoint, reason, error)
    SELECT g.message_id, split_part(g.endpoint, ' ', 1), 'poison', $3::text FROM gone g
    WHERE EXISTS (SELECT FROM outbox.message m WHERE m.id = g.message_id)
    ON CONFLICT (message_id) DO UPDATE SET endpoint = excluded.endpoint, reason = excluded.reason, error = excluded.error, at = excluded.at
)`

const pauseSQL = `UPDATE outbox.endpoint e SET paused = true, reason = $2, since = now()
WHERE e.endpoint = $1 RETURNING e.endpoint`

// removeSQL removes rows of due that this worker leased and whose message is gone.
const removeSQL = `DELETE FROM outbox.due d
WHERE d.message_id = ANY ($1::text[]::uuid[]) AND d.locked_by = $2
  AND NOT EXISTS (SELECT FROM outbox.message m WHERE m.id = d.message_id)
RETURNING d.message_id`

// setAside removes or makes dead what a claim leased and cannot be sent. After an error that is no refusal, it is
// tried again: the lease ends and it is claimed again.
func (c *Claimer) setAside(ctx context.Context, t taken) (all []Aside) {
	if len(t.orphans) > 0 {
		removed, err := c.change(ctx, c.sql.remove, texts(t.orphans), c.config.Worker)
		switch {
		case err == nil && removed > 0:
			all = append(all, Aside{What: AsideRemoved, IDs: t.orphans, Reason: "no message belongs to it"})
		case refuses(err):
			for _, id := range t.orphans {
				c.rowsLeftOut.add(id, time.Now(), false)
			}
			all = append(all, Aside{What: AsideLeftOut, IDs: t.orphans, Reason: "no message belongs to it, and to remove it: " + refusal(err)})
		}
	}
	for _, u := range t.unreadable {
		reason := fmt.Sprintf("the worker cannot read it: column %s of its claim", u.column)
		all = append(all, c.poison(ctx, u.id, reason)...)
	}
	return append(all, c.setUnfitAside(ctx, t.unfit)...)
}

// poison makes a message dead, or leaves it out where the database refuses that, too.
func (c *Claimer) poison(ctx context.Context, id outbox.ID, reason string) []Aside {
	buried, err := c.changeTelling(ctx, c.sql.poison, c.db.deadOwners(), id.String(), reason, c.config.Worker)
	switch {
	case err == nil && buried == 0: // another worker took it, or it is gone
		return nil
	case err == nil:
		c.rowsLeftOut.drop(id)
		return []Aside{{What: AsidePoison, IDs: []outbox.ID{id}, Reason: reason}}
	}
	return c.leaveOutRow(id, reason+"; and to make it dead: "+whyNot(err), false)
}

func (c *Claimer) leaveOutRow(id outbox.ID, reason string, waits bool) []Aside {
	until := c.rowsLeftOut.add(id, time.Now(), waits)
	return []Aside{{What: AsideLeftOut, IDs: []outbox.ID{id}, Reason: untilText(reason, until)}}
}

// pause pauses an endpoint. It leaves it out for a while where the database refuses that too, or where the database now
// accepts what it refused before.
func (c *Claimer) pause(ctx context.Context, endpoint, reason string) []Aside {
	refused, paused := false, int64(0)
	err := within(ctx, "set aside", ClaimTimeout, func(ctx context.Context) error {
		return c.db.transact(ctx, func(tx pgx.Tx) (err error) {
			if _, err = tx.Exec(ctx, recordSettings); err != nil {
				return err
			}
			change := func(trial pgx.Tx) error { return c.changeAsClaim(ctx, trial, endpoint) }
			if refused, err = stillRefused(ctx, tx, c.sql.lock, endpoint, change, refuses); err != nil || !refused {
				return err
			}
			return c.config.Events.tell(func(t Telling) error { // a savepoint: without events, the transaction goes on
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					tag, err := tx.Exec(ctx, c.sql.pause.at(t), endpoint, "poison: "+reason)
					paused = tag.RowsAffected()
					return err
				})
			})
		})
	})
	switch {
	case err != nil:
		return c.leaveOutEndpoint(endpoint, reason+"; and to pause it: "+whyNot(err), false)
	case !refused:
		return c.leaveOutEndpoint(endpoint, reason+"; tried again, it was accepted", false)
	case paused == 0: // its row is gone
		return nil
	}
	c.endpointsLeftOut.drop(endpoint)
	return []Aside{{What: AsidePaused, Endpoint: endpoint, Reason: reason}}
}

func (c *Claimer) leaveOutEndpoint(endpoint, reason string, waits bool) []Aside {
	until := c.endpointsLeftOut.add(endpoint, time.Now(), waits)
	return []Aside{{What: AsideLeftOut, Endpoint: endpoint, Reason: untilText(reason, until)}}
}

func untilText(reason string, until time.Time) string {
	return fmt.Sprintf("%s; this worker tries again in %v", reason, time.Until(until).Round(time.Second))
}

// change runs one statement that sets something aside, and returns how many rows it changed.
func (c *Claimer) change(ctx context.Context, sql string, args ...any) (n int, err error) {
	err = within(ctx, "set aside", ClaimTimeout, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) { b.Queue(sql, args...) }
		return hotBatch(ctx, c.db, queue, func(results pgx.BatchResults) error {
			tag, err := results.Exec()
			n = int(tag.RowsAffected())
			return err
		})
	})
	return n, err
}

// leaveOut is the order without the endpoints that are left out now.
func (c *Claimer) leaveOut(o Order, now time.Time) Order {
	out := c.endpointsLeftOut.now(now)
	if len(out) == 0 {
		return o
	}
	o.Turns = slices.DeleteFunc(slices.Clone(o.Turns), func(t Turn) bool { return slices.Contains(out, t.Endpoint) })
	o.Except = append(slices.Clone(o.Except), out...)
	return o
}

// left are the endpoints that a claim left behind and that can be claimed now.
func (c *Claimer) left(o Order, t taken) []Candidate {
	left := append(o.leftBehind(t.recent, t.messages), t.unserved...)
	left = append(left, behindUnfit(t.unfit)...)
	if out := c.endpointsLeftOut.now(time.Now()); len(out) > 0 {
		left = slices.DeleteFunc(left, func(c Candidate) bool { return slices.Contains(out, c.Endpoint) })
	}
	return left
}

// wasAccepted notes that a claim took something.
func (c *Claimer) wasAccepted() {
	c.accepted = time.Now()
	c.rowsLeftOut.accepted(c.accepted)
	c.endpointsLeftOut.accepted(c.accepted)
}

// refuses reports an error that a single row can cause: a data fault (SQLSTATE class 22), a broken rule (23,
// 44), something raised on purpose (P0), a damaged page (XX), and whatever else a function raises in a
// trigger, a constraint or a domain. A session, a lock, a disk, a shutdown or a read-only server is no row's fault.
func refuses(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "22", "23", "44", "P0", "XX":
		return true
	case "08", "25", "28", "40", "53", "55", "57", "58":
		return false
	}
	return e.Where != "" // within a function
}

// refusal says what the database refused, as [Refusal] does.
func refusal(err error) string {
	if sqlstate.Of(err) == "" {
		return "the database failed"
	}
	return "the database refuses it: " + Refusal(err)
}

// whyNot is refusal, or says that something else went wrong.
func whyNot(err error) string {
	if refuses(err) {
		return refusal(err)
	}
	return err.Error()
}
