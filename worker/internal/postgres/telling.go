package postgres

import "context"

// Telling is how much the statements that change something tell of it (package event). A worker that tells nothing runs the
// statements without a word about events in them.
type Telling int

const (
	Quiet  Telling = iota // tell nothing
	Answer                // say which messages died, and which circuit breakers had been open
	Write                 // besides, write what happened into outbox.event
)

var tellings = []Telling{Quiet, Answer, Write}

// RecordEvents is whom a Recorder tells. Its zero value is nobody.
type RecordEvents struct {
	Telling func() Telling // now
	Died    func(Result)   // a message that is dead now, and on record
	Untold  func(error)    // what happened is on record, and not in outbox.event, for the database refuses that
}

func (e RecordEvents) telling() Telling {
	if e.Telling == nil {
		return Quiet
	}
	return e.Telling()
}

// An event never keeps a result from its record. So where the database refuses a statement that writes events, or the table
// of events is locked as a whole, the statement is made once more without them.

// telling runs a statement at the telling of now.
func (r *Recorder) telling(run func(Telling) error) error {
	return tell(r.config.Events.telling(), r.config.Events.Untold, run)
}

func tell(t Telling, untold func(error), run func(Telling) error) error {
	err := run(t)
	if t != Write || err == nil || !IsRefusal(err) && (!IsLocked(err) || IsRowLocked(err)) {
		return err
	}
	again := run(Answer)
	if again == nil && untold != nil {
		untold(err)
	}
	return again
}

func (r *Recorder) tellingArgs(t Telling, args []any) []any {
	if t == Quiet {
		return args
	}
	return append(args, r.config.OpenAfter)
}

// whatDied is among the changes of a record: of a message, whose id stands where the endpoint does.
const whatDied = "died"

// tellDeaths takes the deaths out of the changes, and tells of them.
func (r *Recorder) tellDeaths(changes []EndpointChange, batch []Result) []EndpointChange {
	kept := changes[:0]
	var died map[string]bool
	for _, c := range changes {
		if c.What != whatDied {
			kept = append(kept, c)
			continue
		}
		if died == nil {
			died = map[string]bool{}
		}
		died[c.Endpoint] = true
	}
	if len(died) == 0 || r.config.Events.Died == nil {
		return kept
	}
	for i := range batch {
		if batch[i].Action == ActionDead && died[batch[i].ID.String()] {
			r.config.Events.Died(batch[i])
		}
	}
	return kept
}

const (
	// noEvent says of a lane that it does not hold events, whose own failures raise none.
	noEvent = `split_part(endpoint, ' ', 1) <> 'event'`

	// ownerOf is the lane without the part that names a URL.
	ownerOf = `rtrim(split_part(endpoint, ' ', 1) || ' ' || split_part(endpoint, ' ', 2))`

	intoEvents = `INSERT INTO outbox.event (kind, lane, n, reason, message_id)
    `

	// deaths are those of a record's settled rows.
	deaths = `SELECT CASE reason WHEN 'poison' THEN 'message.set_aside' ELSE 'message.dead' END, ` + ownerOf + `, count(*), reason, max(message_id::text)::uuid
    FROM settled WHERE action = 'dead' AND ` + noEvent + ` GROUP BY 1, 2, reason`

	// turns are changes of lanes as events. That a lane answers again is one only if it was held back before.
	turns = `SELECT CASE what WHEN 'opened' THEN 'breaker.opened' WHEN 'closed' THEN 'breaker.closed' ELSE 'endpoint.set_aside' END, endpoint, 1, reason, NULL
    FROM changed WHERE (what <> 'closed' OR was_open) AND ` + noEvent

	// wereOpen are lanes of a delivery that were held back before it.
	wereOpen = `was AS MATERIALIZED (
    SELECT e.endpoint FROM outbox.endpoint e WHERE ` + answeredWhileFailing + ` AND e.failures >= $9::integer
),
`
)

// recordDeliveriesText is recordDeliveriesSQL at a telling.
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

// tellingChanges is endpointChanges of a record at a telling, as something to select from, and what comes before.
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

// withoutEnd lets more clauses follow a statement's last one.
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

// The statements by which a claim sets something aside, as they write events.
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

// ClaimEvents is whom a Claimer tells. Its zero value is nobody.
type ClaimEvents struct {
	Telling func() Telling
	Untold  func(error)
}

// toldText is a statement as it is and as it writes events.
type toldText struct{ quiet, told string }

func (x toldText) at(t Telling) string {
	if t == Write {
		return x.told
	}
	return x.quiet
}

// telling runs a statement at the telling of now.
func (c *Claimer) telling(run func(Telling) error) error {
	t := Quiet
	if c.config.Events.Telling != nil {
		t = c.config.Events.Telling()
	}
	return tell(t, c.config.Events.Untold, run)
}

// changeTelling is change with a statement that may write events.
func (c *Claimer) changeTelling(ctx context.Context, sql toldText, args ...any) (n int, err error) {
	err = c.telling(func(t Telling) (err error) {
		n, err = c.change(ctx, sql.at(t), args...)
		return err
	})
	return n, err
}
