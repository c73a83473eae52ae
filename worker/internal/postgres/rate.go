package postgres

// The rate of an endpoint, as an operator limited it, is a token bucket for all workers together. Its only state is
// endpoint.granted_at: the time up to which the rate is used up. The time since then is what the rate has left, at most one
// second of it (or one request, where a request takes longer), so that a burst never exceeds max(rate, 1). A claim
// moves granted_at on by 1/rate for each message that it takes, and does not set it to now: so the remaining fraction of a request
// counts for the next claim.
const (
	// rate is requests per second of a row e of outbox.endpoint that has a rate. Its bounds, the same as the
	// table's, prevent a value that was set by hand (NaN, 1e-300) from failing the claim for every endpoint.
	rate = `least(greatest(e.rate_per_second, 1e-3), 1e6)`

	// grantedAt is granted_at of e within bounds. No claim sets it in the future. If it is there (by more than two
	// claims at once explain), it was written by hand, or before the clock was set back; waiting for it could take for ever. The
	// rate then gives one request, which corrects it.
	grantedAt = `CASE WHEN e.granted_at > now() + interval '1 s' THEN now() - 1.001 / ` + rate + ` * interval '1 s'
                     ELSE greatest(e.granted_at, ` + earliest + `) END`

	// rateLeft is how many requests the rate of e allows now.
	rateLeft = `greatest(floor(least(` + rate + ` * extract(epoch FROM now() - (` + grantedAt + `)), greatest(` + rate + `, 1))), 0)`

	// rateUsed is granted_at of e after p.messages more requests.
	rateUsed = `greatest(` + grantedAt + `, now() - greatest(1 / ` + rate + `, 1) * interval '1 s')
                   + p.messages / ` + rate + ` * interval '1 s'`
)

// candidateCanGive says that the lane of a candidate c is not held back, and that its rates have something left. A full
// scan requires both: what it finds can be claimed, so if nothing is claimed, something is wrong.
const candidateCanGive = `(SELECT bool_or(` + heldBack + ` OR e.rate_per_second IS NOT NULL AND ` + rateLeft + ` < 1)
   FROM outbox.endpoint e WHERE ` + boundsC + `) IS NOT TRUE`
