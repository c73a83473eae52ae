package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// A claim that the database refuses is narrowed down: its turns are halved until each refused endpoint is alone, and then
// the messages of these endpoints until each refused row is alone. What is accepted on the way is claimed, so that the other
// endpoints are served before the refused row is found.
//
// Whose fault is it, the endpoint's row or a message's? Where a constraint is broken, the error names a table. Otherwise
// the change that a claim makes to the endpoint's row is tried by itself, in a transaction that is rolled back: if that is refused,
// it is the endpoint's fault.
//
// A refused row becomes dead, and a refused endpoint is paused, but only if the database accepts others: in the same
// claim, or since the row was first refused. Otherwise it may be refusing everything (a trigger for a
// maintenance, a rule that no row fulfils), and every message would die. A data fault of the only refused row needs
// no such witness. This process leaves out for a while what it does not set aside (leftOut).
//
// narrowStatements and narrowTime bound the work of one claim; the next one continues.
const (
	narrowStatements = 64
	narrowForRows    = 24 // of narrowStatements; the others may all be used for the endpoints
	narrowTime       = 4 * time.Second
	narrowRows       = 512 // of one endpoint
)

// tryEndpointSQL changes an endpoint as the claim of one message would.
const tryEndpointSQL = `UPDATE outbox.endpoint e SET
    granted_at = CASE WHEN e.rate_per_second IS NULL OR ` + rateLeft + ` < 0 THEN e.granted_at ELSE ` + rateUsed + ` END,
    probing = e.probing OR e.failures >= $2,
    open_until = CASE WHEN e.failures >= $2 THEN now() + $3::interval ELSE e.open_until END
FROM (SELECT 1 AS messages) p
WHERE e.endpoint = $1 AND (e.failures >= $2 OR e.rate_per_second IS NOT NULL) AND e.ctid = ANY (ARRAY(
    SELECT l.ctid FROM outbox.endpoint l WHERE l.endpoint = $1 FOR UPDATE SKIP LOCKED
))`

// claimableOfATurnSQL are the messages that a turn may take.
const claimableOfATurnSQL = `SELECT d.message_id FROM outbox.due d
WHERE d.endpoint = $2 AND d.due_at >= CASE WHEN $3::timestamptz <= ` + earliest + ` THEN timestamptz '-infinity' ELSE $3::timestamptz END
  AND ` + claimable + ` AND d.message_id <> ALL ($5::text[]::uuid[])
ORDER BY d.due_at LIMIT $4::integer`

// narrowing is the state of narrowing down one claim.
type narrowing struct {
	c          *Claimer
	ctx        context.Context
	since      time.Time
	most       int // messages that it may still take
	statements int // that it may still run
	ends       time.Time
	taken      taken
	suspects   []suspect
	refused    []refused
	err        error // not a refusal: what ended it
}

// suspect is a turn that was refused alone: either its endpoint or one of its messages is at fault.
type suspect struct {
	turn Turn
	err  error
}

// refused is a row or an endpoint that was refused alone.
type refused struct {
	id       outbox.ID // of a row
	endpoint string    // of an endpoint; "" for a row
	err      error
}

// narrow claims what can be claimed of an order that was refused. It takes no recent messages of endpoints without a turn:
// it reports these as left behind, and they have a turn in the next claim. It fails when it could claim nothing and the database
// may be refusing everything.
func (c *Claimer) narrow(ctx context.Context, o Order, since time.Time, cause error) (taken, []Aside, error) {
	n := &narrowing{c: c, ctx: ctx, since: since, most: o.Most, statements: narrowStatements, ends: time.Now().Add(narrowTime)}
	n.turns(o.Turns)
	for _, s := range n.suspects {
		if n.over(0) {
			n.leave(s.turn)
		} else {
			n.endpoint(s.turn, s.err)
		}
	}
	aside, unsure := n.settle()
	switch {
	case n.taken.rows() > 0 || n.err == nil && n.taken.whole && !unsure:
		return n.taken, aside, nil
	case n.err != nil:
		return n.taken, aside, n.err
	}
	return n.taken, aside, cause
}

// turns claims the turns, in halves where they are refused together.
func (n *narrowing) turns(turns []Turn) {
	if n.over(narrowForRows) {
		n.leave(turns...)
		return
	}
	err := n.take(turns, nil)
	switch {
	case !refuses(err):
	case len(turns) == 0: // no turn is the reason
		n.err = err
	case len(turns) == 1:
		n.suspects = append(n.suspects, suspect{turns[0], err})
	default:
		n.turns(turns[:len(turns)/2])
		n.turns(turns[len(turns)/2:])
	}
}

// endpoint finds out whether an endpoint's row or its messages are refused.
func (n *narrowing) endpoint(t Turn, cause error) {
	if n.blamesEndpoint(t.Endpoint, cause) {
		n.refused = append(n.refused, refused{endpoint: t.Endpoint, err: cause})
		return
	}
	n.statements--
	var ids []outbox.ID
	err := within(n.ctx, "narrow down a claim", ClaimTimeout, func(ctx context.Context) error {
		args := []any{n.c.db.deadOwners(), t.Endpoint, t.From, min(t.Most, narrowRows), texts(append([]outbox.ID{}, n.c.rowsLeftOut.now(time.Now())...))}
		queue := func(b *pgx.Batch) { b.Queue(n.c.sql.claimableOfATurn, args...) }
		return hotBatch(ctx, n.c.db, queue, func(results pgx.BatchResults) (err error) {
			ids, err = collect(results, pgx.RowTo[outbox.ID])
			return err
		})
	})
	if err != nil {
		n.err = err
		return
	}
	n.rows(t, ids)
}

// rows claims messages of one endpoint, in halves where they are refused together.
func (n *narrowing) rows(t Turn, ids []outbox.ID) {
	if len(ids) == 0 {
		return
	}
	if n.over(0) {
		n.leave(t)
		return
	}
	t.Most = len(ids)
	err := n.take([]Turn{t}, ids)
	switch {
	case !refuses(err):
	case len(ids) == 1:
		n.refused = append(n.refused, refused{id: ids[0], err: err})
	default:
		n.rows(t, ids[:len(ids)/2])
		n.rows(t, ids[len(ids)/2:])
	}
}

// blamesEndpoint says whether the endpoint's row is refused, and none of its messages.
func (n *narrowing) blamesEndpoint(endpoint string, cause error) bool {
	var e *pgconn.PgError
	if errors.As(cause, &e) && e.SchemaName == n.c.config.Schema {
		switch e.TableName {
		case "endpoint":
			return true
		case "due", "attempt":
			return false
		}
	}
	n.statements--
	err := within(n.ctx, "try an endpoint", ClaimTimeout, func(ctx context.Context) error {
		tx, err := n.c.db.begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil { // otherwise they are checked only at the commit
			return err
		}
		return n.c.changeAsClaim(ctx, tx, endpoint)
	})
	return refuses(err)
}

// changeAsClaim changes an endpoint's row as the claim of one message would.
func (c *Claimer) changeAsClaim(ctx context.Context, tx pgx.Tx, endpoint string) error {
	_, err := tx.Exec(ctx, c.sql.tryEndpoint, endpoint, max(c.config.OpenAfter, 1), c.config.Lease)
	return err
}

// take makes one claim, and keeps what it claimed.
func (n *narrowing) take(turns []Turn, only []outbox.ID) error {
	n.statements--
	got, err := n.c.take(n.ctx, Order{Most: n.most, Turns: turns}, n.since, only)
	switch {
	case err == nil:
		n.most -= got.rows()
		n.taken.messages = append(n.taken.messages, got.messages...)
		n.taken.orphans = append(n.taken.orphans, got.orphans...)
		n.taken.unreadable = append(n.taken.unreadable, got.unreadable...)
		n.taken.recent, n.taken.whole = got.recent, true
	case !refuses(err):
		n.err = err
	}
	return err
}

// over says that narrowing down ends here. keep statements are reserved for what comes after.
func (n *narrowing) over(keep int) bool {
	return n.err != nil || n.most <= 0 || n.statements <= keep || time.Now().After(n.ends)
}

// leave leaves turns to the next claim.
func (n *narrowing) leave(turns ...Turn) {
	for _, t := range turns {
		n.taken.unserved = append(n.taken.unserved, Candidate{Endpoint: t.Endpoint, Since: t.From})
	}
}

// settle sets aside what was refused alone. unsure says that the database may be refusing everything.
func (n *narrowing) settle() (aside []Aside, unsure bool) {
	c := n.c
	for _, r := range n.refused {
		reason, isRow := refusal(r.err), r.endpoint == ""
		first := c.endpointsLeftOut.since(r.endpoint)
		if isRow {
			first = c.rowsLeftOut.since(r.id)
		}
		witness := n.taken.rows() > 0 || !first.IsZero() && c.accepted.After(first) || len(n.refused) == 1 && IsCertain(r.err)
		switch {
		case witness && isRow:
			aside = append(aside, c.poison(n.ctx, r.id, reason)...)
		case witness:
			aside = append(aside, c.pause(n.ctx, r.endpoint, reason)...)
		case isRow:
			aside, unsure = append(aside, c.leaveOutRow(r.id, reason, true)...), true
		default:
			aside, unsure = append(aside, c.leaveOutEndpoint(r.endpoint, reason, true)...), true
		}
	}
	return aside, unsure
}
