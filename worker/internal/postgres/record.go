package postgres

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Action is what happens to a message, in the words of the record statement.
type Action string

// The actions. The first three end an attempt; the others take back the attempt that the claim counted.
const (
	ActionDelivered Action = "delivered"
	ActionRetry     Action = "retry"   // due again after Delay
	ActionDead      Action = "dead"    // given up, for Reason
	ActionRelease   Action = "release" // not sent: the worker is stopping; due as before
	ActionWait      Action = "wait"    // not sent: the worker lacks what WaitsFor names; due again after Delay
	ActionMove      Action = "move"    // not sent: its URL was set aside; due as before, in the lane that MoveTo names
)

// IsAttempt reports the end of an attempt. The other results were not sent: if they are not recorded, they are due again when their leases end.
func (a Action) IsAttempt() bool {
	return a == ActionDelivered || a == ActionRetry || a == ActionDead
}

// ReasonPoison is the reason of a dead message whose result the database refuses.
const ReasonPoison = "poison"

// Result is one finished request, and what follows from it.
type Result struct {
	// The claim that it ends. With the recorder's worker, these three are its fence.
	ID       outbox.ID
	Endpoint string // its lane
	Attempt  int

	// What follows.
	Action Action
	Delay  time.Duration // for a retry or a wait: until the next attempt
	Reason string        // for a dead message: refused, exhausted, gone, poison
	MoveTo string        // for a retry or a move: the lane in which it is due again; "" for its present one
	Says   []Saying      // what it says about the health of lanes; each lane once

	// How the attempt ended. Its text must be valid UTF-8 without NUL. "" and 0 become NULL.
	Class      string // as in attempt.class; "" for an attempt that is not logged
	StatusCode int    // 0 when no answer came
	Err        string // what went wrong, without the URL
	Response   string // start of the response body
	Note       string // what was left out of the request
	WaitsFor   string // for a wait: what the worker lacks
	StartedAt  time.Time
	Duration   time.Duration
	WrittenAt  time.Time // when the message was written, by this process's clock; zero when that is not known
}

// EndpointChange is a change that a batch of results made to an endpoint.
type EndpointChange struct {
	Endpoint  string
	What      string // EndpointOpened, EndpointClosed, EndpointGone or EndpointPaused
	Reason    string
	OpenUntil *time.Time // nothing is sent before; nil when there is no such time
	WasOpen   bool       // for EndpointClosed: its circuit breaker was open; known only when events are reported
}

// The values of What.
const (
	EndpointOpened = "opened" // its circuit breaker: it failed too often in a row
	EndpointClosed = "closed" // its circuit breaker: it answers again
	EndpointGone   = "gone"   // a URL answered 410: its other messages are tried one at a time
	EndpointPaused = "paused" // the database refuses to change its row
)

// Recorder writes results. It may be used by several goroutines at once.
//
// It keeps the circuit breaker of each endpoint, which all workers share in outbox.endpoint. OpenAfter failures in a row
// open it: for OpenFor, and twice as long each time up to OpenForMax, ±20 %, nothing is sent to the endpoint. Then it is
// half-open: a claim sends a single message as a probe. An answer closes it, a failure opens it again. The endpoint's
// messages wait meanwhile: they are not claimed, and no attempt is counted.
type Recorder struct {
	db      *DB
	sql     map[Telling]recordStatements
	config  RecorderConfig
	metrics recordMetrics
}

// RecorderConfig is checked by the worker, not here.
type RecorderConfig struct {
	Schema     string
	Worker     string // the name that holds the leases
	OpenAfter  int    // failures in a row that open an endpoint's circuit breaker
	OpenFor    time.Duration
	OpenForMax time.Duration

	Events Events // the zero value reports none

	Instruments *instruments.Maker // make the metrics; nothing is measured when nil
}

// RecordTimeout bounds one write of a batch.
const RecordTimeout = 15 * time.Second

type recordStatements struct{ deliveries, deliveriesBeside, all, try, lock, health, pause, holders string }

// NewRecorder returns a recorder.
func NewRecorder(db *DB, c RecorderConfig) *Recorder {
	r := &Recorder{db: db, config: c, metrics: newRecordMetrics(c.Instruments), sql: map[Telling]recordStatements{}}
	for _, t := range tellings {
		r.sql[t] = recordStatements{
			deliveries: sqlschema.In(recordDeliveriesText(t), c.Schema), deliveriesBeside: sqlschema.In(recordDeliveriesBesideSQL, c.Schema),
			all: sqlschema.In(recordText(t), c.Schema), try: sqlschema.In(tryRecordText(t), c.Schema),
			lock: sqlschema.In(lockEndpointSQL, c.Schema), health: sqlschema.In(tryHealthSQL, c.Schema),
			pause: sqlschema.In(pauseRefusedText(t), c.Schema), holders: sqlschema.In(holdersSQL, c.Schema),
		}
	}
	return r
}

// recordSettings are hotSettings with a bound on each wait for a lock. It is far below Postgres's deadlock_timeout of 1 s,
// and longer than any transaction of ours holds its locks.
const recordSettings = hotSettings + `, set_config('lock_timeout', '200ms', true)`

// Results are fenced: a record touches only rows that this worker still holds, under the attempt that it made. A batch
// that is recorded a second time, because the answer to its commit was lost, finds none of them and changes nothing.
// Times are the database's: what the worker measured arrives as durations.
//
// All records take their locks in one order, so that no two wait for each other: first the rows of due, by message id (the
// arguments come in that order), and then those of endpoint, by name, in one pass. A claim waits for no lock.
const (
	// fence joins results r with the rows d that they may touch. The array makes the key the only way to join: with = there
	// is a plan that reads the whole index, and it looks better to the planner while little is due.
	fence = `d.message_id = ANY (ARRAY[r.message_id]) AND d.attempt = r.attempt AND d.locked_by = $1`

	// finishedDeliveries records for endpoints at which everything in a batch was delivered, which is the usual case. It has a
	// third of the columns and clauses of recordSQL, and takes two thirds of its time. It does not close circuit breakers.
	finishedDeliveries = `WITH finished AS (
    DELETE FROM outbox.due d
    USING unnest($2::text[]::uuid[], $3::integer[], $4::integer[], $5::bigint[], $6::integer[], $7::text[], $8::text[])
        AS r (message_id, attempt, duration_ms, ago_ms, status_code, response, note)
    WHERE ` + fence + `
    RETURNING d.endpoint, r.*
),
logged AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, duration_ms, class, status_code, response, note, worker)
    SELECT message_id, attempt, now() - ago_ms * interval '1 ms', duration_ms, 'delivered', status_code, response, note, $1
    FROM finished
)
`

	// answeredWhileFailing are lanes, and their origins, that failed before and answered now. It says failures <> 0 and not
	// > 0, for which the planner would use the index of all failing lanes.
	answeredWhileFailing = `e.endpoint = ANY (ARRAY(
    SELECT endpoint FROM finished UNION SELECT split_part(endpoint, ' ', 1) FROM finished WHERE strpos(endpoint, ' ') > 0)) AND e.failures <> 0`
)

// recordDeliveriesSQL records a batch with nothing but deliveries. The index returns the endpoints in their
// order.
const recordDeliveriesSQL = finishedDeliveries + closedByDeliveries + `, false`

// closedByDeliveries closes the circuit breakers of lanes that answer again.
const closedByDeliveries = `UPDATE outbox.endpoint e
SET failures = 0, openings = 0, probing = false, open_until = NULL, since = now(),
    reason = CASE WHEN e.paused THEN e.reason ELSE 'answers' END
WHERE ` + answeredWhileFailing + `
RETURNING e.endpoint, 'closed', e.reason, e.open_until`

// recordDeliveriesBesideSQL records the deliveries of a batch in which other things happened at other endpoints. It
// changes no endpoint: recordSQL, which follows in the same transaction, changes those of both in one pass. It learns of
// them by a setting that ends with the transaction.
const recordDeliveriesBesideSQL = finishedDeliveries + `SELECT set_config('epilogue.answered', coalesce((
    SELECT array_agg(e.endpoint)::text FROM outbox.endpoint e WHERE ` + answeredWhileFailing + `), ''), true)`

// recordSQL records whatever happened.
//
// r are the results. finished and kept are those whose row was found: its message is no longer due, or due again.
//
// settled are those that were an attempt: each is logged, and its message is dead if it was the last one. One without a class is not
// logged: that message is dead because of a fault of the record itself.
//
// changes is what the attempts of this batch say about each lane. They count as failures only if all of them are: a single answer
// shows that the lane works. answers are those that say nothing else. Those of the deliveries in the
// same transaction are added.
//
// remembered are the lanes to hold back, to open or to count as failing, and those to close, which failed before and
// answered now. If a lane has a row, failures add up. Its circuit breaker opens when they are enough and it
// is not open yet, or when its probe failed. The longer of its own time and the time that was asked for holds.
const recordSQL = recordUpToChanges + endpointChanges

const recordUpToChanges = `WITH r AS (
    ` + givenResults + `
),
` + recordParts + recordChanges + `    UNION ALL
    SELECT unnest(nullif(current_setting('epilogue.answered', true), '')::text[]), 0, false, 0, NULL, true
),
` + recordEndpoints

// The parts of recordSQL, which are also used for tryRecordSQL.
const (
	givenResults = `SELECT * FROM unnest($2::text[]::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::bigint[],
                         $9::text[], $10::integer[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[])
        AS r (message_id, attempt, action, delay_ms, reason, duration_ms, ago_ms,
              class, status_code, error, response, note, endpoint, move_to, waits_for)`

	recordParts = `finished AS (
    DELETE FROM outbox.due d USING r
    WHERE ` + fence + ` AND r.action IN ('delivered', 'dead')
    RETURNING r.*
),
kept AS (
    UPDATE outbox.due d
    SET locked_by = NULL, locked_until = NULL, waits_for = r.waits_for, attempt = d.attempt - (r.action <> 'retry')::integer,
        endpoint = coalesce(r.move_to, d.endpoint),
        due_at = CASE WHEN r.action IN ('release', 'move') THEN d.due_at ELSE now() + r.delay_ms * interval '1 ms' END
    FROM r
    WHERE ` + fence + ` AND r.action IN ('retry', 'release', 'wait', 'move')
    RETURNING r.*
),
settled AS (
    SELECT * FROM finished UNION ALL SELECT * FROM kept WHERE action = 'retry'
),
buried AS (
    INSERT INTO outbox.dead (message_id, endpoint, reason, error)
    SELECT message_id, split_part(endpoint, ' ', 1), reason, coalesce(error, '') FROM settled WHERE action = 'dead'
),
logged AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, duration_ms, class, status_code, error, response, note, worker)
    SELECT message_id, attempt, now() - ago_ms * interval '1 ms', duration_ms, class, status_code, error, response, note, $1
    FROM settled WHERE class <> ''
),
`

	recordChanges = `said AS (
    SELECT s.endpoint, max(s.hold_ms) AS hold_ms, bool_or(s.half_open) AS half_open,
           CASE WHEN bool_and(s.failures > 0) THEN sum(s.failures) ELSE 0 END::integer AS failures,
           max(coalesce('answered ' || t.status_code, t.class)) FILTER (WHERE s.failures > 0) AS fault
    FROM (` + givenSayings + `) s
    JOIN (SELECT * FROM settled WHERE class <> 'blocked' AND class <> '' UNION ALL SELECT * FROM kept WHERE action = 'move') t USING (message_id)
    GROUP BY s.endpoint
),
changes AS (
    SELECT *, NOT (half_open OR hold_ms > 0 OR failures > 0) AS answers FROM said
`

	recordEndpoints = `remembered AS (
    INSERT INTO outbox.endpoint AS e (endpoint, failures, openings, open_until, reason, since)
    SELECT c.endpoint, c.failures, (c.failures >= $22 AND NOT c.half_open)::integer,
           now() + nullif(greatest(c.hold_ms, CASE WHEN c.failures >= $22 AND NOT c.half_open THEN $23 * (0.8 + 0.4 * random()) ELSE 0 END), 0)
               * interval '1 ms',
           CASE WHEN c.half_open AND c.failures > 0 THEN 'gone: ' || c.fault WHEN c.hold_ms > 0 THEN 'Retry-After'
                WHEN c.failures > 0 THEN 'failing: ' || c.fault ELSE 'answers' END, now()
    FROM changes c
    WHERE c.failures > 0 OR c.hold_ms > 0
       OR EXISTS (SELECT FROM outbox.endpoint f WHERE f.endpoint = ANY (ARRAY[c.endpoint]) AND f.failures <> 0)
    ORDER BY c.endpoint COLLATE "C"
    ON CONFLICT (endpoint) DO UPDATE SET (failures, openings, open_until, probing, reason, since) = (
        SELECT f.failures, CASE WHEN a.answers THEN 0 ELSE e.openings + o.opens::integer END,
               CASE WHEN NOT a.answers THEN
                   greatest(CASE WHEN o.opens THEN now() + least($23 * power(2, least(e.openings, 30)), $24) * (0.8 + 0.4 * random()) * interval '1 ms'
                                 WHEN e.probing AND (c.half_open OR f.failures = 0) THEN NULL ELSE e.open_until END,
                            now() + nullif(c.hold_ms, 0) * interval '1 ms') END,
               e.probing AND f.failures > 0 AND NOT o.opens AND NOT c.half_open,
               CASE WHEN e.paused OR c.half_open AND c.failures = 0 THEN e.reason ELSE excluded.reason END,
               CASE WHEN a.answers OR NOT e.paused AND (o.opens OR f.failures >= $22 AND e.failures < $22) THEN now() ELSE e.since END
        FROM (SELECT * FROM changes c WHERE c.endpoint = excluded.endpoint) c,
             LATERAL (SELECT CASE WHEN c.half_open THEN greatest(e.failures, c.failures)
                                  WHEN c.failures > 0 THEN least(e.failures + c.failures, 1000000000) ELSE 0 END AS failures) f,
             LATERAL (SELECT NOT c.half_open AND f.failures >= $22 AND (e.probing OR e.open_until IS NULL OR e.open_until <= now()) AS opens) o,
             LATERAL (SELECT c.answers) a
    )
    WHERE e.failures <> 0 OR excluded.failures > 0 OR excluded.open_until IS NOT NULL
    RETURNING endpoint, paused, failures, open_until, reason, since = now() AS changed
)
`

	endpointChanges = changesOf + `false` + changesFrom

	changesOf = `SELECT m.endpoint, CASE WHEN c.answers THEN 'closed' WHEN c.half_open THEN 'gone' ELSE 'opened' END, m.reason,
       CASE WHEN NOT c.answers THEN m.open_until END, `
	changesFrom = `
FROM remembered m JOIN changes c ON c.endpoint = m.endpoint
WHERE NOT m.paused AND (c.answers OR m.changed AND m.failures >= $22)`
)

// Record writes a batch in one transaction: all of it, or nothing when it fails. It waits at most 200 ms for a lock:
// then [IsLocked] reports the error. When [IsRefusal] reports it, the same batch would fail again. In both cases [Recorder.TryRecord]
// finds out which result is the cause. After any other error, for example a lost connection, the batch may have been written, and
// the caller writes it again.
func (r *Recorder) Record(ctx context.Context, batch []Result) (changes []EndpointChange, err error) {
	err = r.config.Events.tell(func(t Telling) (err error) {
		changes, err = r.record(ctx, batch, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.tellDeaths(changes, batch), nil
}

func (r *Recorder) record(ctx context.Context, batch []Result, t Telling) (changes []EndpointChange, err error) {
	began, sql := time.Now(), r.sql[t]
	deliveries, others := split(batch)
	err = within(ctx, "record", RecordTimeout, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) {
			switch {
			case len(deliveries) > 0 && len(others) > 0:
				b.Queue(sql.deliveriesBeside, r.deliveryArgs(deliveries)...)
			case len(deliveries) > 0:
				b.Queue(sql.deliveries, r.tellingArgs(t, r.deliveryArgs(deliveries))...)
			}
			if len(others) > 0 {
				b.Queue(sql.all, r.args(others)...)
			}
		}
		return hotBatchUnder(ctx, r.db, recordSettings, queue, func(results pgx.BatchResults) (err error) {
			if len(deliveries) > 0 && len(others) > 0 {
				if _, err := results.Exec(); err != nil {
					return err
				}
			}
			if len(batch) > 0 {
				changes, err = collect(results, pgx.RowToStructByPos[EndpointChange])
			}
			return err
		})
	})
	r.metrics.recorded(began, batch, nil, err)
	return changes, err
}

// split separates the deliveries at origins where nothing else happened from all other results: the health of an origin and its
// lanes is judged by all its answers in the batch. Both come in the order in which their rows are locked.
func split(batch []Result) (deliveries, others []*Result) {
	mixed := map[string]bool{}
	for i := range batch {
		if batch[i].Action != ActionDelivered {
			mixed[lane.Origin(batch[i].Endpoint)] = true
		}
	}
	for _, x := range inLockOrder(batch) {
		if mixed[lane.Origin(x.Endpoint)] {
			others = append(others, x)
		} else {
			deliveries = append(deliveries, x)
		}
	}
	return deliveries, others
}

// inLockOrder are a batch's results by message id.
func inLockOrder(batch []Result) []*Result {
	ordered := make([]*Result, len(batch))
	for i := range batch {
		ordered[i] = &batch[i]
	}
	slices.SortFunc(ordered, func(a, b *Result) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return ordered
}

// deliveryArgs turns results into the arguments of recordDeliveriesSQL.
func (r *Recorder) deliveryArgs(batch []*Result) []any {
	n := len(batch)
	ids, attempts, durations, agos := make([]string, n), make([]int32, n), make([]int32, n), make([]int64, n)
	codes, responses, notes := make([]*int32, n), make([]*string, n), make([]*string, n)
	for i, x := range batch {
		ids[i], attempts[i] = x.ID.String(), int32(x.Attempt)
		durations[i], agos[i] = int32(x.Duration.Milliseconds()), time.Since(x.StartedAt).Milliseconds()
		codes[i], responses[i], notes[i] = codeOrNull(x.StatusCode), orNull(x.Response), orNull(x.Note)
	}
	return []any{r.config.Worker, ids, attempts, durations, agos, codes, responses, notes}
}

// args turns results into the arguments of recordSQL, of types that work in every mode of the protocol.
func (r *Recorder) args(batch []*Result) []any {
	n := len(batch)
	ids, attempts, actions := make([]string, n), make([]int32, n), make([]string, n)
	delays, reasons, durations, agos := make([]int64, n), make([]*string, n), make([]int32, n), make([]int64, n)
	classes, codes, errs := make([]string, n), make([]*int32, n), make([]*string, n)
	responses, notes, endpoints := make([]*string, n), make([]*string, n), make([]string, n)
	moves, waits := make([]*string, n), make([]*string, n)
	var said sayings
	for i, x := range batch {
		ids[i], attempts[i], actions[i] = x.ID.String(), int32(x.Attempt), string(x.Action)
		delays[i], reasons[i] = x.Delay.Milliseconds(), orNull(x.Reason)
		durations[i], agos[i] = int32(x.Duration.Milliseconds()), time.Since(x.StartedAt).Milliseconds()
		classes[i], errs[i] = x.Class, orNull(x.Err)
		codes[i] = codeOrNull(x.StatusCode)
		responses[i], notes[i], endpoints[i] = orNull(x.Response), orNull(x.Note), x.Endpoint
		moves[i], waits[i] = orNull(x.MoveTo), orNull(x.WaitsFor)
		said.add(ids[i], x.Says)
	}
	return append([]any{
		r.config.Worker, ids, attempts, actions, delays, reasons, durations, agos, classes, codes, errs, responses, notes, endpoints,
		moves, waits,
	}, append(said.args(), r.config.OpenAfter, r.config.OpenFor.Milliseconds(), r.config.OpenForMax.Milliseconds())...)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func codeOrNull(code int) *int32 {
	if code == 0 {
		return nil
	}
	n := int32(code)
	return &n
}
