package postgres

// The statements of records and claims note events in outbox.event, in their own transactions (package event). A note is an
// INSERT, so it waits for no lock.

const (
	// noEvent says that a lane does not hold events: their own failures raise no events.
	noEvent = `split_part(endpoint, ' ', 1) <> 'event'`

	// ownerOf is the lane without the part for a URL.
	ownerOf = `rtrim(split_part(endpoint, ' ', 1) || ' ' || split_part(endpoint, ' ', 2))`

	intoEvents = `INSERT INTO outbox.event (kind, lane, n, reason, message_id)
    `

	// deaths are the notes of a record's dead messages.
	deaths = `SELECT CASE reason WHEN 'poison' THEN 'message.set_aside' ELSE 'message.dead' END, ` + ownerOf + `, count(*), reason, max(message_id::text)::uuid
    FROM settled WHERE action = 'dead' AND ` + noEvent + ` GROUP BY 1, 2, reason`

	// turns are the notes of changed lanes. A lane that answers again is noted only if its circuit breaker was open.
	turns = `SELECT CASE what WHEN 'opened' THEN 'breaker.opened' WHEN 'closed' THEN 'breaker.closed' ELSE 'endpoint.set_aside' END, endpoint, 1, reason, NULL
    FROM changed WHERE (what <> 'closed' OR was_open) AND ` + noEvent

	// wereOpen are the lanes of deliveries whose circuit breaker was open before.
	wereOpen = `was AS MATERIALIZED (
    SELECT e.endpoint FROM outbox.endpoint e WHERE ` + answeredWhileFailing + ` AND e.failures >= $9::integer
),
`
)

// recordDeliveriesText is the form of recordDeliveriesSQL that reports as much as t says.
func recordDeliveriesText(t Telling) string {
	if t == Quiet {
		return recordDeliveriesSQL
	}
	sql := finishedDeliveries[:len(finishedDeliveries)-1] + `,
` + wereOpen + `changed (endpoint, what, reason, open_until) AS (
` + closedByDeliveries + `
),
seen (endpoint, what, reason, open_until, was_open) AS MATERIALIZED (
    SELECT c.*, EXISTS (SELECT FROM was w WHERE w.endpoint = c.endpoint) FROM changed c
)`
	if t == Write {
		sql += `,
told AS (
    ` + intoEvents + `SELECT 'breaker.closed', endpoint, 1, reason, NULL FROM seen WHERE was_open AND ` + noEvent + `
)`
	}
	return sql + `
SELECT * FROM seen`
}

// tellingChanges returns the end of a record's statement that reports as much as t says: the clauses before, and the final SELECT of the changes.
func tellingChanges(t Telling) (before, changes string) {
	before = `,
changed (endpoint, what, reason, open_until, was_open) AS MATERIALIZED (
    ` + changesOf + `c.answers AND EXISTS (SELECT FROM outbox.endpoint f WHERE f.endpoint = ANY (ARRAY[m.endpoint]) AND f.failures >= $22)` + changesFrom + `
)`
	if t == Write {
		before += `,
told AS (
    ` + intoEvents + deaths + `
    UNION ALL
    ` + turns + `
)
`
	}
	return before, `SELECT * FROM changed
UNION ALL
SELECT message_id::text, '` + whatDied + `', reason, NULL, false FROM settled WHERE action = 'dead'`
}

func recordText(t Telling) string {
	if t == Quiet {
		return recordSQL
	}
	before, changes := tellingChanges(t)
	return withoutEnd(recordUpToChanges) + before + "\n" + changes
}

func tryRecordText(t Telling) string {
	if t == Quiet {
		return tryRecordSQL
	}
	before, changes := tellingChanges(t)
	return withoutEnd(tryUpToChanges) + before + "\n" + tryChangesLeft + changes + tryChangesRight
}

// withoutEnd cuts the last character, so that more clauses can follow.
func withoutEnd(sql string) string { return sql[:len(sql)-1] }

func pauseRefusedText(t Telling) string {
	if t != Write {
		return pauseRefusedSQL
	}
	return `WITH paused AS (
` + pauseRefusedSQL + `
),
told AS (
    ` + intoEvents + `SELECT 'endpoint.set_aside', endpoint, 1, reason, NULL FROM paused WHERE ` + noEvent + `
)
SELECT * FROM paused`
}

// The forms that also write events, of the statements by which a claim sets something aside.
const (
	poisonToldSQL = poisonUpToEnd + `,
told AS (
    ` + intoEvents + `SELECT 'message.set_aside', ` + ownerOf + `, 1, 'poison', message_id FROM gone
    WHERE EXISTS (SELECT FROM outbox.message m WHERE m.id = gone.message_id) AND ` + noEvent + `
)
SELECT message_id FROM gone`

	expireToldSQL = expireUpToEnd + `,
told AS (
    ` + intoEvents + `SELECT 'message.dead', ` + ownerOf + `, count(*), 'expired', max(message_id::text)::uuid FROM gone WHERE ` + noEvent + ` GROUP BY 2
)
SELECT message_id FROM gone`

	pauseToldSQL = `WITH paused AS (
` + pauseSQL + `
),
told AS (
    ` + intoEvents + `SELECT 'endpoint.set_aside', endpoint, 1, $2::text, NULL FROM paused WHERE ` + noEvent + `
)
SELECT endpoint FROM paused`
)
