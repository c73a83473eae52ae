package postgres

import (
	"bytes"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Message is what a claim returns of a message: everything that one request needs.
type Message struct {
	ID             outbox.ID
	Endpoint       string    // its lane
	DueFrom        time.Time // the next claim of the endpoint may begin here; a little earlier than now, for late commits
	Attempt        int       // the number of this attempt, counted over the message's life
	AttemptsBefore int       // attempts made before the last replay; the retry schedule counts from here
	MaxInFlight    int       // an operator's limit of requests at once for the lane; 0 for no limit
	OriginMax      int       // an operator's limit of requests at once to the origin, all its lanes together; 0 for no limit
	Rate           float64   // an operator's limit of requests per second, all workers together; the lowest that applies to the lane; 0 for no limit
	Probe          bool      // a circuit breaker is half-open: nothing else is sent there until this one is answered
	RunID          string
	Status         outbox.TerminalStatus
	Body           []byte // nil when it is larger than BodyMax: then the Loader reads it
	BodyBytes      int    // its size
	URL            string
	Headers        []byte // JSON; nil for a message that forwards none
	Options        []byte // JSON, or nil; not decoded here, so that a fault in them affects this message alone
	Unfit          string // why it is not sent but set aside (unfit.go); "" for one that is sent

	// Age is how old the message was when it was claimed, by the database's clock. WrittenAt is the time of writing by this process's clock.
	Age       time.Duration
	WrittenAt time.Time
}

// Order is what a claim must do.
type Order struct {
	Most  int    // messages in all
	Turns []Turn // the endpoints to serve, in this order; each endpoint once
	// Recent is how many endpoints without a turn may give one message each, of those that got messages since
	// the last claim. An endpoint with a rate gives none without a turn.
	Recent int
	Except []string // endpoints that give no recent message
}

// Turn is an endpoint's part in a claim: at most Most of its messages, of those that are due since From or later. Messages that are
// due for longer were taken before, or the next full scan finds them.
type Turn struct {
	Endpoint string
	From     time.Time
	Most     int
}

// Claimed is the result of a claim.
type Claimed struct {
	Messages []Message   // in no order
	Left     []Candidate // the endpoints with recent messages, or with a turn, that this claim left behind
	Aside    []Aside     // what it set aside so that the others could be claimed (aside.go)
}

// Claimer takes due messages under a lease. It makes one claim at a time: it must not be used by two goroutines at once.
type Claimer struct {
	db      *DB
	sql     claimStatements
	config  ClaimerConfig
	metrics claimMetrics
	since   time.Time // the start of the last claim that succeeded; recent messages are read from here

	accepted         time.Time // when the database last accepted a claim that took something
	rowsLeftOut      leftOut[outbox.ID]
	endpointsLeftOut leftOut[string]
}

type claimStatements struct {
	claim, chosen                 string // the second one is slower: it also compares message ids
	lock, remove, unprobe         string // aside.go
	poison, pause, expire         toldText
	tryEndpoint, claimableOfATurn string // narrow.go
}

// ClaimerConfig is checked by the worker, not here.
type ClaimerConfig struct {
	Schema    string
	Worker    string        // the name that holds the leases; no two processes may share it
	Lease     time.Duration // from the claim, by the database's clock
	OpenAfter int           // failures in a row that open an endpoint's circuit breaker; at least 1

	Events Events // the zero value reports none

	Instruments *instruments.Maker // make the metrics; nothing is measured when nil
}

// NewClaimer returns a claimer that reads recent messages from now on.
func NewClaimer(db *DB, c ClaimerConfig) *Claimer {
	return &Claimer{db: db, config: c, metrics: newClaimMetrics(c.Instruments), since: time.Now(), sql: claimStatements{
		claim: sqlschema.In(claimSQL, c.Schema), chosen: sqlschema.In(claimChosenSQL, c.Schema),
		lock: sqlschema.In(lockEndpointSQL, c.Schema), remove: sqlschema.In(removeSQL, c.Schema), unprobe: sqlschema.In(unprobeSQL, c.Schema),
		poison:      toldText{sqlschema.In(poisonSQL, c.Schema), sqlschema.In(poisonToldSQL, c.Schema)},
		pause:       toldText{sqlschema.In(pauseSQL, c.Schema), sqlschema.In(pauseToldSQL, c.Schema)},
		expire:      toldText{sqlschema.In(expireSQL, c.Schema), sqlschema.In(expireToldSQL, c.Schema)},
		tryEndpoint: sqlschema.In(tryEndpointSQL, c.Schema), claimableOfATurn: sqlschema.In(claimableOfATurnSQL, c.Schema),
	}}
}

// ClaimTimeout bounds one claim, and one scan for recent messages. If a claim commits later than that, its messages are released
// when their leases end.
const ClaimTimeout = 10 * time.Second

// recentOverlap is how long before the last claim a recent message may have been written, because some transactions take
// long to commit.
const recentOverlap = 300 * time.Millisecond

// The claim is one statement. Its cost depends only on what it takes: not on how much waits, nor on
// delivered rows that a vacuum cannot remove yet.
//
// recent are the endpoints that got messages since the last claim, as a recent scan finds them.
//
// turns are the endpoints to serve, in their order: the recent ones, and those that the order asks for. The scan of each
// begins where the last one ended, and the LIMIT in picked ends it all when enough is found. Without that starting point,
// each scan would pass the index entries of everything that was delivered since the oldest snapshot in the database.
//
// bounded are the turns with the limits of their lanes.
//
// picked takes from each lane its turn's messages, the longest due first. It passes over rows that others are
// claiming, and over lanes that are held back: by their own row, their tenant's or their origin's. It takes no more than
// each of these rows allows: what its rate has left (rate.go), and one message where its circuit breaker is half-open. The
// rows with a rate or a failing circuit breaker are its guards: it needs them all.
//
// guards counts for each of these rows the messages of all lanes together. beyond are those that exceed what it allows.
//
// granted changes the guards: it uses up the rate, and lets only one worker send the probe. It finds
// the rows by the places where it just locked them. A row that changed since the statement began has moved to another
// place: it is not found, and its lanes give nothing to this claim. One UPDATE does both, because a statement can
// change a row only once: a lane with a rate and an open circuit breaker needs both. The array around its key keeps
// the planner from reading the whole index while few lanes are remembered.
//
// taken are the picked messages that have no guards, or got all of them.
//
// claimed counts the attempt and leases the row. None of these columns is indexed, so the update stays on its page. It finds the
// row by its place, too: a row that moved stays locked for the moment and unclaimed, for the next claim.
//
// lost logs the attempt whose lease ran out, or whose worker died.
//
// Values that somebody wrote into the rows by hand are brought within bounds wherever they are used or returned, so that no
// row makes the statement fail for the others (claimable.go, rate.go).
//
// The answer's rows are the messages. After them come the recent endpoints with how many messages each got, and
// the limits of the lanes that have some, once for all their messages. A message without body_bytes is a row of due whose
// message is gone.
const claimSQL = claimUpToChosen + claimFromChosen

// claimChosenSQL is the claim with two more arguments: message ids that are left out, and those that it may take, or NULL
// for any. It is used while some are left out, and to narrow down a refusal.
const claimChosenSQL = claimUpToChosen + ` AND d.message_id <> ALL ($15::text[]::uuid[])
              AND ($16::text[] IS NULL OR d.message_id = ANY ($16::text[]::uuid[]))` + claimFromChosen

const claimUpToChosen = `WITH recent AS MATERIALIZED (
    ` + recentSQL + `
),
turns AS MATERIALIZED (
    SELECT endpoint, CASE WHEN due_from <= ` + earliest + ` THEN timestamptz '-infinity' ELSE due_from END AS due_from, most, asked FROM (
        (SELECT endpoint::text, due_at AS due_from, 1 AS most, false AS asked FROM recent
         WHERE endpoint <> ALL ($5) AND endpoint <> ALL ($13::text[]) AND split_part(endpoint, ' ', 1) <> ALL ($13::text[]) LIMIT $14)
        UNION ALL
        SELECT endpoint, due_from, most, true FROM unnest($5::text[], $6::timestamptz[], $7::integer[]) AS o (endpoint, due_from, most)
    ) o
),
bounded AS MATERIALIZED (
    SELECT t.*, e.*
    FROM turns t
    LEFT JOIN LATERAL (
        SELECT array_agg(e.endpoint::text) FILTER (WHERE e.guards) AS guards, array_agg(e.allowed) FILTER (WHERE e.guards) AS allowed,
               bool_or(e.held_back) AS held_back, min(least(e.max_in_flight, e.allowed))::integer AS allows,
               min(e.max_in_flight) FILTER (WHERE strpos(e.endpoint, ' ') > 0) AS max_in_flight,
               min(e.max_in_flight) FILTER (WHERE strpos(e.endpoint, ' ') = 0) AS origin_max_in_flight,
               min(e.rate) AS rate, bool_or(e.half_open) AS probe
        FROM (
            SELECT e.endpoint, e.failures >= $11 OR e.rate_per_second IS NOT NULL AS guards, ` + heldBack + ` AS held_back,
                   ` + maxInFlight + ` AS max_in_flight, e.failures >= $11 AS half_open,
                   CASE WHEN e.rate_per_second IS NOT NULL THEN ` + rate + ` END AS rate,
                   least(CASE WHEN e.failures >= $11 THEN 1 END,
                         CASE WHEN e.rate_per_second IS NULL THEN NULL WHEN NOT t.asked THEN 0
                              ELSE ` + rateLeft + ` END)::integer AS allowed
            FROM outbox.endpoint e WHERE ` + boundsT + `
        ) e
    ) e ON true
),
picked AS MATERIALIZED (
    SELECT d.place, d.message_id, d.attempt, d.locked_by, d.locked_until, t.guards, t.allowed
    FROM bounded t
    CROSS JOIN LATERAL (
        SELECT d.ctid AS place, d.message_id, d.attempt, d.locked_by, d.locked_until
        FROM outbox.due d
        WHERE d.endpoint = t.endpoint AND d.due_at >= t.due_from AND ` + claimable

const claimFromChosen = `
        ORDER BY d.due_at
        LIMIT least(t.most, t.allows)
        FOR UPDATE SKIP LOCKED
    ) d
    WHERE t.held_back IS NOT TRUE
    LIMIT $8
),
guards AS MATERIALIZED (
    SELECT p.place, g.endpoint, g.allowed, row_number() OVER (PARTITION BY g.endpoint) AS nth
    FROM picked p CROSS JOIN LATERAL unnest(p.guards, p.allowed) AS g (endpoint, allowed) WHERE p.guards IS NOT NULL
),
beyond AS MATERIALIZED (
    SELECT place FROM guards WHERE nth > allowed
),
granted AS (
    UPDATE outbox.endpoint e SET
        granted_at = CASE WHEN e.rate_per_second IS NULL THEN e.granted_at ELSE
                   ` + rateUsed + ` END,
        probing = e.probing OR e.failures >= $11,
        open_until = CASE WHEN e.failures >= $11 THEN now() + $10::interval ELSE e.open_until END
    FROM (SELECT endpoint, count(*) AS messages FROM guards WHERE place <> ALL (ARRAY(SELECT place FROM beyond)) GROUP BY endpoint) p
    WHERE e.endpoint = ANY (ARRAY[p.endpoint]) AND e.ctid = ANY (ARRAY(
        SELECT l.ctid FROM outbox.endpoint l
        WHERE l.endpoint = ANY (ARRAY(SELECT endpoint FROM guards))
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING e.endpoint::text
),
taken AS MATERIALIZED (
    SELECT * FROM picked WHERE guards IS NULL
    UNION ALL
    SELECT * FROM picked p
    WHERE guards IS NOT NULL AND place <> ALL (ARRAY(SELECT place FROM beyond)) AND guards <@ ARRAY(SELECT endpoint FROM granted)
),
claimed AS (
    UPDATE outbox.due d SET attempt = ` + nextAttempt + `, attempts_before = ` + attemptsBefore + `,
        locked_by = $9, locked_until = now() + $10::interval, waits_for = NULL
    WHERE d.ctid = ANY (ARRAY(SELECT place FROM taken))
    RETURNING d.message_id, d.endpoint, d.attempt, d.attempts_before, d.due_at
),
lost AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, class, error, worker)
    SELECT message_id, attempt, CASE WHEN locked_until BETWEEN ` + earliest + ` AND now() THEN locked_until ELSE now() END, 'lost',
           CASE WHEN locked_until > now() AND locked_by = ANY (` + dead + `) THEN 'the worker died before it recorded an answer'
                ELSE 'the worker''s lease ran out before it recorded an answer' END,
           coalesce(locked_by, 'unknown')
    FROM taken WHERE locked_until IS NOT NULL AND attempt > 0 AND attempt < ` + attemptMax + `
    ON CONFLICT DO NOTHING
)
SELECT c.message_id, c.endpoint, greatest(least(c.due_at, now() - interval '250 ms'), ` + earliest + `) AS due_from, c.attempt,
       CASE WHEN c.attempt < ` + attemptMax + ` THEN c.attempts_before ELSE 0 END AS attempts_before,
       0 AS max_in_flight, 0 AS origin_max_in_flight, 0::double precision AS rate, false AS probe, -- of the lanes: see below
       m.run_id, m.status, m.body_bytes, m.body, m.url, m.headers, m.options, m.unfit, m.age_ms
FROM claimed c
LEFT JOIN LATERAL (
    SELECT m.run_id, m.status, octet_length(b.body) AS body_bytes,
           CASE WHEN octet_length(b.body) <= $12 THEN b.body END AS body, m.url,
           CASE WHEN m.options ? 'forward' THEN m.headers END AS headers, m.options,
           ` + unfit + ` AS unfit, ` + ageMS + ` AS age_ms
    FROM outbox.message m
    CROSS JOIN LATERAL (SELECT ` + body + ` AS body) b
    WHERE m.id = c.message_id OFFSET 0
) m ON true
UNION ALL
SELECT NULL, endpoint, due_at, written, 0, 0, 0, 0, false, ` + recentFloor + `::text, '', 0, NULL, '', NULL, NULL, '', 0 FROM recent
UNION ALL
SELECT NULL, endpoint, NULL, 0, 0, coalesce(max_in_flight, 0), coalesce(origin_max_in_flight, 0), coalesce(rate, 0), coalesce(probe, false),
       '', '', NULL, NULL, '', NULL, NULL, '', 0 FROM bounded
WHERE max_in_flight IS NOT NULL OR origin_max_in_flight IS NOT NULL OR rate IS NOT NULL OR probe`

const (
	// nextAttempt counts an attempt of a row d of outbox.due. The last number is used again and again: after it no answer
	// leads to a further attempt, because attempts before a replay no longer count then.
	nextAttempt = `greatest(least(d.attempt, ` + attemptMax + ` - 1), 0) + 1`

	// attemptsBefore is the number of d's attempts before the last replay, at most as many as were made: otherwise the retry schedule
	// would begin again each time.
	attemptsBefore = `greatest(least(d.attempts_before, d.attempt), 0)`

	// ageMS is how long ago a row m of outbox.message was written, within sensible bounds. extract would calculate with
	// numeric, which is slower.
	ageMS = `(date_part('epoch', now() - greatest(least(m.created_at, now()), ` + earliest + `)) * 1000)::bigint`

	// maxInFlight is the limit of a row e of outbox.endpoint: at least 1, or NULL for none.
	maxInFlight = `CASE WHEN e.max_in_flight < 1 THEN 1 ELSE e.max_in_flight END`
)

// Claim takes messages. When it fails, the next claim reads the same recent messages again. Where the database refuses a
// row or an endpoint, that one is set aside, and the others are claimed. What was set aside is returned beside an error, too.
func (c *Claimer) Claim(ctx context.Context, o Order) (Claimed, error) {
	began, since := time.Now(), c.since.Add(-recentOverlap)
	o = c.leaveOut(o, began)
	taken, err := c.take(ctx, o, since, nil)
	var aside []Aside
	if refuses(err) {
		taken, aside, err = c.narrow(ctx, o, since, err)
	}
	if err != nil {
		c.metrics.setAside(aside)
		return Claimed{Aside: aside}, err
	}
	if taken.whole {
		c.since = began
	}
	aside = append(aside, c.setAside(ctx, taken)...)
	c.metrics.setAside(aside)
	return Claimed{Messages: taken.messages, Left: c.left(o, taken), Aside: aside}, nil
}

// take makes one claim: only of the messages with the ids, or of any when there are none.
func (c *Claimer) take(ctx context.Context, o Order, since time.Time, only []outbox.ID) (taken taken, err error) {
	began := time.Now()
	sql, args := c.sql.claim, c.args(o, began.Sub(since))
	if out := c.rowsLeftOut.now(time.Now()); len(out) > 0 || only != nil {
		sql, args = c.sql.chosen, append(args, texts(append([]outbox.ID{}, out...)), texts(only))
	}
	err = within(ctx, "claim", ClaimTimeout, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) { b.Queue(sql, args...) }
		return hotBatch(ctx, c.db, queue, func(results pgx.BatchResults) (err error) {
			taken, err = readClaim(results)
			return err
		})
	})
	c.metrics.claimed(began, taken.rows(), err)
	if err == nil && taken.rows() > 0 {
		c.wasAccepted()
	}
	return taken, err
}

// texts are ids in a form that works in every mode of the protocol; none are NULL.
func texts(ids []outbox.ID) []string {
	if ids == nil {
		return nil
	}
	return uuid7.Texts(ids)
}

func (c *Claimer) args(o Order, ago time.Duration) []any {
	n := len(o.Turns)
	endpoints, from, most := make([]string, n), make([]time.Time, n), make([]int32, n)
	for i, t := range o.Turns {
		endpoints[i], from[i], most[i] = t.Endpoint, t.From, int32(t.Most)
	}
	except := o.Except
	if except == nil {
		except = []string{} // <> ALL (NULL) is never true
	}
	return append(c.db.recentArgs(ago), endpoints, from, most, o.Most, c.config.Worker, c.config.Lease,
		max(c.config.OpenAfter, 1), BodyMax, except, o.Recent)
}

// written is an endpoint that got messages since the last claim, with their number, and the least id among them.
type written struct {
	Candidate
	messages int
	floor    outbox.ID
}

// leftBehind returns the recent endpoints at which the claim left something: one that had no turn and gave fewer messages than it
// got, or one whose turn began later than its recent messages are due.
func (o Order) leftBehind(recent []written, messages []Message) (left []Candidate) {
	if len(recent) == 0 {
		return nil
	}
	from, gave := map[string]time.Time{}, map[string]int{}
	for _, t := range o.Turns {
		from[t.Endpoint] = t.From
	}
	for i := range messages {
		if bytes.Compare(messages[i].ID[:], recent[0].floor[:]) >= 0 {
			gave[messages[i].Endpoint]++
		}
	}
	for _, w := range recent {
		turn, had := from[w.Endpoint]
		if had && w.Since.Before(turn) || !had && gave[w.Endpoint] < w.messages {
			left = append(left, w.Candidate)
		}
	}
	return left
}
