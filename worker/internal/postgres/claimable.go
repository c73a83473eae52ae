package postgres

// The rules that several statements share. Each is written once, here, and fits the alias that it names.
const (
	// claimable says that a row d of outbox.due may be claimed: it is due, and nobody has it under a lease.
	claimable = `d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now())`

	// heldBack says that nothing may be sent to the endpoint of a row e of outbox.endpoint: an operator or a 410 paused
	// it, its circuit breaker is open, or it asked to be left alone for a while. It may be NULL, which means no.
	heldBack = `(e.paused OR e.open_until > now())`

	// candidateIsServed says that the endpoint of a candidate c is not held back. Most endpoints have no row.
	candidateIsServed = `(SELECT ` + heldBack + ` FROM outbox.endpoint e WHERE e.endpoint = c.endpoint) IS NOT TRUE`

	// body is what is sent of a row m of outbox.message.
	body = `coalesce(m.result, convert_to(m.error, 'UTF8'), ''::bytea)`
)
