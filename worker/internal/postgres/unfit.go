package postgres

import (
	"context"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Why a message must not be sent.
const (
	unfitExpired    = "expired"     // it has expired
	unfitContradict = "contradicts" // its row contradicts itself: somebody wrote it by hand
)

// unfit says whether a row m of outbox.message is sent: an empty text means yes. A number of
// milliseconds or a time of writing that somebody wrote by hand is brought within bounds. A run has a result or an error, by its status.
// The table no longer has a rule for that: it cost each writer more than this costs here (DESIGN.md, Which rule lives where).
const unfit = `CASE WHEN CASE WHEN m.status = 'succeeded' THEN m.error IS NOT NULL ELSE m.error IS NULL OR m.result IS NOT NULL END
                THEN '` + unfitContradict + `'
                WHEN CASE WHEN jsonb_typeof(m.options -> 'expire_after_ms') = 'number' THEN
                    now() > greatest(least(m.created_at, now()), ` + earliest + `) +
                    greatest(least((m.options -> 'expire_after_ms')::numeric, 31536000000), 0)::bigint::double precision * interval '1 ms'
                ELSE false END THEN '` + unfitExpired + `' ELSE '' END`

// expireSQL moves rows of due to dead that this worker leased and whose messages have expired. Tables before version 8 do not
// have that reason.
const expireSQL = expireUpToEnd + `
SELECT message_id FROM gone`

const expireUpToEnd = `WITH gone AS (
    DELETE FROM outbox.due d WHERE d.message_id = ANY ($1::text[]::uuid[]) AND d.locked_by = $2
    RETURNING d.message_id, d.endpoint
),
buried AS (
    INSERT INTO outbox.dead (message_id, endpoint, reason, error)
    SELECT message_id, endpoint, CASE WHEN outbox.version() >= 8 THEN 'expired' ELSE 'exhausted' END,
           'it expired before it was delivered (expire_after_ms of its options)'
    FROM gone ORDER BY message_id
    ON CONFLICT (message_id) DO UPDATE SET endpoint = excluded.endpoint, reason = excluded.reason, error = excluded.error, at = excluded.at
)`

// unprobeSQL lets another message probe lanes whose probe was not sent: otherwise they would wait until the lease of the missing probe ends.
const unprobeSQL = `UPDATE outbox.endpoint e SET probing = false, open_until = now()
FROM unnest($1::text[]) AS c (endpoint) WHERE ` + boundsC + ` AND e.probing RETURNING e.endpoint`

const contradiction = "its row contradicts itself: a succeeded run has a result and no error, any other an error and no result"

// setUnfitAside makes messages dead that a claim leased and that must not be sent. Where the database refuses a batch, each is set aside by
// itself.
func (c *Claimer) setUnfitAside(ctx context.Context, messages []Message) (all []Aside) {
	var expired []outbox.ID
	for i := range messages {
		if messages[i].Unfit == unfitExpired {
			expired = append(expired, messages[i].ID)
			continue
		}
		all = append(all, c.poison(ctx, messages[i].ID, contradiction)...)
	}
	defer c.unprobe(ctx, messages)
	if len(expired) == 0 {
		return all
	}
	const reason = "it expired before it was delivered"
	buried, err := c.changeTelling(ctx, c.sql.expire, texts(expired), c.config.Worker)
	switch {
	case err == nil && buried > 0:
		all = append(all, Aside{What: AsideExpired, IDs: expired, Reason: reason})
	case refuses(err):
		for _, id := range expired {
			all = append(all, c.poison(ctx, id, reason+"; and to say so: "+refusal(err))...)
		}
	}
	return all
}

// unprobe gives up the probes among messages that were not sent. If that fails, they end with their leases.
func (c *Claimer) unprobe(ctx context.Context, messages []Message) {
	var lanes []string
	for i := range messages {
		if messages[i].Probe {
			lanes = append(lanes, messages[i].Endpoint)
		}
	}
	if len(lanes) > 0 {
		_, _ = c.change(ctx, c.sql.unprobe, lanes)
	}
}

// behindUnfit are the endpoints of messages that were not sent: there may be more messages, and no answer there will lead
// to the next claim.
func behindUnfit(messages []Message) (left []Candidate) {
	seen := map[string]bool{}
	for i := range messages {
		if m := &messages[i]; !seen[m.Endpoint] {
			seen[m.Endpoint] = true
			left = append(left, Candidate{Endpoint: m.Endpoint, Since: m.DueFrom})
		}
	}
	return left
}
