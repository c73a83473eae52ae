package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Action is what becomes of a message, as the record statement names it.
type Action string

// The actions. The first three are the end of an attempt; the last two take back the attempt that the claim counted.
const (
	ActionDelivered Action = "delivered"
	ActionRetry     Action = "retry"   // due again after Delay
	ActionDead      Action = "dead"    // given up, for Reason
	ActionRelease   Action = "release" // not sent: the worker is stopping; due as before
	ActionWait      Action = "wait"    // not sent: the worker lacks what WaitsFor names; due again after Delay
)

// Result is one finished request, and what it leads to.
type Result struct {
	// The claim that it ends. The three are its fence, with the recorder's worker.
	ID       outbox.ID
	Endpoint string
	Attempt  int

	// What it leads to.
	Action Action
	Delay  time.Duration // until the next attempt, of a retry or a wait
	Reason string        // of a dead message: refused, exhausted, gone
	Hold   time.Duration // how long nothing is sent to the whole endpoint, as it asked; 0 when it did not
	Pause  bool          // the endpoint is gone: nothing is sent to it until an operator resumes it

	// How the attempt ended. Its text must be valid UTF-8 without NUL. "" and 0 become NULL.
	Class      string // as attempt.class names it
	StatusCode int    // 0 when no answer came
	Err        string // what went wrong, without the URL
	Response   string // start of the response body
	Note       string // what was left out of the request
	WaitsFor   string // what the worker lacks, of a wait
	StartedAt  time.Time
	Duration   time.Duration
	Unhealthy  bool // the answer speaks against the endpoint's health: it counts for the circuit breaker
}

// EndpointChange is what a batch of results changed of an endpoint.
type EndpointChange struct {
	Endpoint  string
	What      string // EndpointOpened, EndpointClosed or EndpointPaused
	Reason    string
	OpenUntil *time.Time // nothing is sent before; nil when there is no such time
}

// What an EndpointChange tells.
const (
	EndpointOpened = "opened" // its circuit breaker: it failed too often in a row
	EndpointClosed = "closed" // its circuit breaker: it answers again
	EndpointPaused = "paused" // it is gone
)

// Recorder writes results. It may be used by several goroutines at once.
//
// It keeps the circuit breaker of each endpoint, which all workers share in outbox.endpoint. OpenAfter failures in a row
// open it: for OpenFor, and twice as long each time up to OpenForMax, ±20 %, nothing is sent to the endpoint. Then it is
// half-open: a claim sends a single message as a probe. An answer closes it, a failure opens it again. The endpoint's
// messages wait meanwhile: they are not claimed, and no attempt is counted.
type Recorder struct {
	pool   *pgxpool.Pool
	sql    recordStatements
	config RecorderConfig
}

// RecorderConfig is checked by the worker, not here.
type RecorderConfig struct {
	Schema     string
	Worker     string // the name that holds the leases
	OpenAfter  int    // failures in a row that open an endpoint's circuit breaker
	OpenFor    time.Duration
	OpenForMax time.Duration
}

// RecordTimeout bounds one write of a batch.
const RecordTimeout = 15 * time.Second

type recordStatements struct{ deliveries, all string }

// NewRecorder returns a recorder.
func NewRecorder(pool *pgxpool.Pool, c RecorderConfig) *Recorder {
	return &Recorder{pool: pool, config: c, sql: recordStatements{
		deliveries: inSchema(recordDeliveriesSQL, c.Schema), all: inSchema(recordSQL, c.Schema),
	}}
}

// There are two statements to record a result. Both are fenced: they touch only rows that this worker still holds, under
// the attempt that it made. A batch that is recorded a second time, because the answer to its commit was lost, finds none
// of them and changes nothing. Times are the database's: what the worker measured arrives as durations.
const (
	// fence joins results r with the rows d that they may touch. The array makes the key the only way to join: for = there
	// is a plan that reads the whole index, and it looks better while little is due.
	fence = `d.message_id = ANY (ARRAY[r.message_id]) AND d.attempt = r.attempt AND d.locked_by = $1`

	// closeBreaker is what an answer does to an endpoint e that fails. The statements say failures <> 0 and not > 0, which
	// would lead through the index of all that fail.
	closeBreaker = `failures = 0, openings = 0, probing = false, open_until = NULL, since = now(),
    reason = CASE WHEN e.paused THEN e.reason ELSE 'answers' END`
)

// recordDeliveriesSQL records for endpoints at which everything in a batch was delivered, which is the rule. It has a
// third of the other's columns and clauses, and takes two thirds of its time.
const recordDeliveriesSQL = `WITH finished AS (
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
UPDATE outbox.endpoint e SET ` + closeBreaker + `
WHERE e.endpoint = ANY (ARRAY(SELECT DISTINCT endpoint FROM finished)) AND e.failures <> 0
RETURNING e.endpoint, 'closed', e.reason, e.open_until`

// recordSQL records whatever happened.
//
// r are the results. finished and kept are those that found their row: its message is no longer due, or due again.
//
// settled are those that were an attempt: each is logged, and buried if it was the last.
//
// changes is what the attempts of this batch say of each endpoint. They are failures only if all of them are: an answer
// among them shows that the endpoint is there.
//
// remembered are the endpoints to be paused, held or counted as failing. Of an endpoint that has a row, failures add up,
// and its circuit breaker opens when they are enough and it is not open yet, or when the failure was its probe's. The
// longer of its own time and the one that the endpoint asked for holds.
//
// closed are the endpoints that failed before and answered now.
const recordSQL = `WITH r AS (
    SELECT * FROM unnest($2::text[]::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::bigint[],
                         $9::text[], $10::integer[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::boolean[],
                         $17::text[], $18::boolean[])
        AS r (message_id, attempt, action, delay_ms, reason, duration_ms, ago_ms,
              class, status_code, error, response, note, endpoint, hold_ms, pause, waits_for, unhealthy)
),
finished AS (
    DELETE FROM outbox.due d USING r
    WHERE ` + fence + ` AND r.action IN ('delivered', 'dead')
    RETURNING r.*
),
kept AS (
    UPDATE outbox.due d
    SET locked_by = NULL, locked_until = NULL, waits_for = r.waits_for, attempt = d.attempt - (r.action <> 'retry')::integer,
        due_at = CASE WHEN r.action = 'release' THEN d.due_at ELSE now() + r.delay_ms * interval '1 ms' END
    FROM r
    WHERE ` + fence + ` AND r.action IN ('retry', 'release', 'wait')
    RETURNING r.*
),
settled AS (
    SELECT * FROM finished UNION ALL SELECT * FROM kept WHERE action = 'retry'
),
buried AS (
    INSERT INTO outbox.dead (message_id, endpoint, reason, error)
    SELECT message_id, endpoint, reason, coalesce(error, '') FROM settled WHERE action = 'dead'
),
changes AS (
    SELECT endpoint, bool_or(pause) AS pause, max(hold_ms) AS hold_ms,
           CASE WHEN bool_and(unhealthy) THEN count(*) ELSE 0 END::integer AS failures,
           max(coalesce('answered ' || status_code, class)) FILTER (WHERE unhealthy) AS fault
    FROM settled WHERE class <> 'blocked' GROUP BY endpoint
),
remembered AS (
    INSERT INTO outbox.endpoint AS e (endpoint, paused, failures, openings, open_until, reason, since)
    SELECT c.endpoint, c.pause, c.failures, (c.failures >= $19)::integer,
           now() + nullif(greatest(c.hold_ms, CASE WHEN c.failures >= $19 THEN $20 * (0.8 + 0.4 * random()) ELSE 0 END), 0) * interval '1 ms',
           CASE WHEN c.pause THEN 'gone: an answer was 410' WHEN c.hold_ms > 0 THEN 'Retry-After' ELSE 'failing: ' || c.fault END, now()
    FROM changes c WHERE c.pause OR c.hold_ms > 0 OR c.failures > 0
    ON CONFLICT (endpoint) DO UPDATE SET (failures, openings, open_until, probing, paused, reason, since) = (
        SELECT f.failures, e.openings + o.opens::integer,
               greatest(CASE WHEN o.opens THEN now() + least($20 * power(2, least(e.openings, 30)), $21) * (0.8 + 0.4 * random()) * interval '1 ms'
                             WHEN f.failures > 0 OR NOT e.probing THEN e.open_until END,
                        (SELECT now() + nullif(c.hold_ms, 0) * interval '1 ms' FROM changes c WHERE c.endpoint = excluded.endpoint)),
               e.probing AND f.failures > 0 AND NOT o.opens,
               e.paused OR excluded.paused,
               CASE WHEN e.paused THEN e.reason ELSE excluded.reason END,
               CASE WHEN NOT e.paused AND (excluded.paused OR o.opens) THEN now() ELSE e.since END
        FROM (SELECT CASE WHEN excluded.failures > 0 THEN e.failures + excluded.failures ELSE 0 END AS failures) f,
             LATERAL (SELECT f.failures >= $19 AND (e.probing OR e.open_until IS NULL OR e.open_until <= now()) AS opens) o
    )
    RETURNING endpoint, paused, failures, open_until, reason, since = now() AS changed
),
closed AS (
    UPDATE outbox.endpoint e SET ` + closeBreaker + `
    WHERE e.endpoint = ANY (ARRAY(SELECT endpoint FROM changes WHERE NOT (pause OR hold_ms > 0 OR failures > 0))) AND e.failures <> 0
    RETURNING e.endpoint, e.openings, e.reason
),
logged AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, duration_ms, class, status_code, error, response, note, worker)
    SELECT message_id, attempt, now() - ago_ms * interval '1 ms', duration_ms, class, status_code, error, response, note, $1
    FROM settled
)
SELECT endpoint, CASE WHEN paused THEN 'paused' ELSE 'opened' END, reason, open_until FROM remembered
WHERE changed AND (paused OR failures >= $19)
UNION ALL
SELECT endpoint, 'closed', reason, NULL FROM closed`

// Record writes a batch in one transaction: all of it, or nothing when it fails. When IsRefusal reports the error, the
// same batch fails again, and the caller writes it in parts. After any other error, a lost connection among them, the
// batch may have been written, and the caller writes it again.
func (r *Recorder) Record(ctx context.Context, batch []Result) (changes []EndpointChange, err error) {
	deliveries, others := split(batch)
	err = within(ctx, "record", RecordTimeout, func(ctx context.Context) error {
		queue := func(b *pgx.Batch) {
			if len(deliveries) > 0 {
				b.Queue(r.sql.deliveries, r.deliveryArgs(deliveries)...)
			}
			if len(others) > 0 {
				b.Queue(r.sql.all, r.args(others)...)
			}
		}
		return hotBatch(ctx, r.pool, queue, func(results pgx.BatchResults) error {
			for _, part := range [][]Result{deliveries, others} {
				if len(part) == 0 {
					continue
				}
				changed, err := collect(results, pgx.RowToStructByPos[EndpointChange])
				if err != nil {
					return err
				}
				changes = append(changes, changed...)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// IsRefusal reports an answer of the database that will be the same next time: a data fault (SQLSTATE class 22) or a
// broken constraint (class 23).
func IsRefusal(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "22") || strings.HasPrefix(pgErr.Code, "23"))
}

// split parts the deliveries at endpoints where nothing else happened from all other results: the health of an endpoint
// is judged by all that it answered in the batch.
func split(batch []Result) (deliveries, others []Result) {
	mixed := map[string]bool{}
	for i := range batch {
		if batch[i].Action != ActionDelivered {
			mixed[batch[i].Endpoint] = true
		}
	}
	if len(mixed) == 0 {
		return batch, nil
	}
	for i := range batch {
		if mixed[batch[i].Endpoint] {
			others = append(others, batch[i])
		} else {
			deliveries = append(deliveries, batch[i])
		}
	}
	return deliveries, others
}

// deliveryArgs turns results into the arguments of recordDeliveriesSQL.
func (r *Recorder) deliveryArgs(batch []Result) []any {
	n := len(batch)
	ids, attempts, durations, agos := make([]string, n), make([]int32, n), make([]int32, n), make([]int64, n)
	codes, responses, notes := make([]int32, n), make([]*string, n), make([]*string, n)
	for i := range batch {
		x := &batch[i]
		ids[i], attempts[i] = x.ID.String(), int32(x.Attempt)
		durations[i], agos[i] = int32(x.Duration.Milliseconds()), time.Since(x.StartedAt).Milliseconds()
		codes[i], responses[i], notes[i] = int32(x.StatusCode), orNull(x.Response), orNull(x.Note)
	}
	return []any{r.config.Worker, ids, attempts, durations, agos, codes, responses, notes}
}

// args turns results into the arguments of recordSQL, of types that every mode of the protocol can write.
func (r *Recorder) args(batch []Result) []any {
	n := len(batch)
	ids, attempts, actions := make([]string, n), make([]int32, n), make([]string, n)
	delays, reasons, durations, agos := make([]int64, n), make([]*string, n), make([]int32, n), make([]int64, n)
	classes, codes, errs := make([]string, n), make([]*int32, n), make([]*string, n)
	responses, notes, endpoints := make([]*string, n), make([]*string, n), make([]string, n)
	holds, pauses, waits, unhealthy := make([]int64, n), make([]bool, n), make([]*string, n), make([]bool, n)
	for i := range batch {
		x := &batch[i]
		ids[i], attempts[i], actions[i] = x.ID.String(), int32(x.Attempt), string(x.Action)
		delays[i], reasons[i] = x.Delay.Milliseconds(), orNull(x.Reason)
		durations[i], agos[i] = int32(x.Duration.Milliseconds()), time.Since(x.StartedAt).Milliseconds()
		classes[i], errs[i] = x.Class, orNull(x.Err)
		if x.StatusCode != 0 {
			code := int32(x.StatusCode)
			codes[i] = &code
		}
		responses[i], notes[i], endpoints[i] = orNull(x.Response), orNull(x.Note), x.Endpoint
		holds[i], pauses[i] = x.Hold.Milliseconds(), x.Pause
		waits[i], unhealthy[i] = orNull(x.WaitsFor), x.Unhealthy
	}
	return []any{
		r.config.Worker, ids, attempts, actions, delays, reasons, durations, agos, classes, codes, errs, responses, notes, endpoints,
		holds, pauses, waits, unhealthy, r.config.OpenAfter, r.config.OpenFor.Milliseconds(), r.config.OpenForMax.Milliseconds(),
	}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
