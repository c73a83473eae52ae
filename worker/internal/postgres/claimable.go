package postgres

import "time"

// LeaseMax is the longest lease that a worker may ask for.
const LeaseMax = 24 * time.Hour

// The rules that several statements share. Each is written once, here, for the alias that it names.
const (
	// claimable says that a row d of outbox.due may be claimed: it is due, and nobody has it under a lease. A lease that
	// would last longer than any worker's (leaseMax) does not count: somebody wrote it by hand, or the clock was set back. Nor
	// does a lease of a dead worker. The names of the dead are the first argument of every statement that uses
	// this; only rows under a lease are compared with them.
	claimable = `d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now() OR d.locked_until > now() + ` + leaseMax + `
            OR d.locked_by = ANY (` + dead + `))`

	// dead are the names of dead workers (see DB.DeadOwners).
	dead = `$1::text[]`

	// leaseMax is more than a lease can last: twice LeaseMax.
	leaseMax = `interval '2 days'`

	// earliest is the first time that the worker uses; an earlier one that somebody wrote is replaced by it. So no time that a
	// statement returns, or calculates with, is infinite or before the common era.
	earliest = `timestamptz '1970-01-01 00:00:00+00'`

	// dueSince is the time from which a claim must look to find a row d of outbox.due.
	dueSince = `greatest(d.due_at, ` + earliest + `)`

	// attemptMax is the last attempt that has a number.
	attemptMax = `2147483647`

	// heldBack says that nothing may be sent to the lane of a row e of outbox.endpoint: an operator paused
	// it, its circuit breaker is open, or it asked for a pause (Retry-After). It may be NULL, which means no.
	heldBack = `(e.paused OR e.open_until > now())`

	// candidateIsServed says that the lane of a candidate c is not held back. Most lanes have no row.
	candidateIsServed = `(SELECT true FROM outbox.endpoint e WHERE ` + boundsC + ` AND ` + heldBack + ` LIMIT 1) IS NULL`

	// boundsC and boundsT say that a row e of outbox.endpoint limits the lane of a candidate c (or a claimed message), or of a
	// turn t: it is the lane's own row, the origin's, or the tenant's at the origin (package lane).
	boundsC = `e.endpoint = ANY (CASE WHEN strpos(c.endpoint, ' ') = 0 THEN ARRAY[c.endpoint] ELSE ARRAY[
            c.endpoint, split_part(c.endpoint, ' ', 1), split_part(c.endpoint, ' ', 1) || ' ' || split_part(c.endpoint, ' ', 2)] END)`
	boundsT = `e.endpoint = ANY (CASE WHEN strpos(t.endpoint, ' ') = 0 THEN ARRAY[t.endpoint] ELSE ARRAY[
            t.endpoint, split_part(t.endpoint, ' ', 1), split_part(t.endpoint, ' ', 1) || ' ' || split_part(t.endpoint, ' ', 2)] END)`

	// body is the body of the request for a row m of outbox.message.
	body = `coalesce(m.result, convert_to(m.error, 'UTF8'), ''::bytea)`
)
