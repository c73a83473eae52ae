package postgres

// The rate of an endpoint, as an operator limited it, is a token bucket for all workers together. Its only state is
// endpoint.granted_at: the time up to which the rate is used up. What has passed since is what the rate has left, of one
// second at most (or one request, where a request takes longer), so that a burst never exceeds max(rate, 1). A claim
// moves granted_at on by 1/rate for each message that it takes, and not to now: the fraction of a request that is left
// over counts for the next claim.
const (
	// rate is requests per second of a row e of outbox.endpoint that has a rate. Its bounds keep a setting that was made
	// by hand (NaN, 1e-300) from failing the claim for every endpoint.
	rate = `least(greatest(e.rate_per_second, 1e-6), 1e6)`

	// rateLeft is how many requests the rate of e allows now.
	rateLeft = `greatest(floor(least(` + rate + ` * extract(epoch FROM now() - e.granted_at), greatest(` + rate + `, 1))), 0)`

	// rateUsed is granted_at of e after p.messages more requests.
	rateUsed = `greatest(e.granted_at, now() - greatest(1 / ` + rate + `, 1) * interval '1 s')
                   + p.messages / ` + rate + ` * interval '1 s'`
)
