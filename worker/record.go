package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// result is one finished request, and what it leads to.
type result struct {
	message
	answer
	verdict
}

// recorder writes results in batches: while one batch is written, the next one gathers. The first result after a pause is
// written at once; in a stream, a batch waits until it is large enough to be worth a statement, batchPace at most.
type recorder struct {
	pool   *pgxpool.Pool
	sql    recordStatements
	worker string
	outage *door
	logger *slog.Logger
	in     chan result // bounded: when the database is slower than the receivers, requests wait here
	last   time.Time   // when the last batch was begun
	stream bool        // it was one of many results

	openAfter           int // see health.go
	openFor, openForMax time.Duration
}

// batchPace is the least time between two batches of a stream, of claims as of records, unless there is enough for a
// statement to carry: each statement has a price of its own, which a larger batch shares among more messages. It is what a message in
// a stream may wait here; one that comes alone does not.
const batchPace = 10 * time.Millisecond

// batchMax bounds a batch, and with it one statement's memory.
const batchMax = 512

// batchWorth is enough for a statement; a batch of batchOfStream is taken for part of a stream.
const (
	batchWorth    = 256
	batchOfStream = 8
)

// recordTimeout bounds one write of a batch.
const recordTimeout = 15 * time.Second

// recordStatements are the two ways to record a result, each fenced: it touches only rows that this worker still holds,
// under the attempt it made. A second run of the same batch, after a commit whose answer was lost, finds none of them and
// changes nothing. Times are the database's: what the worker measured arrives as durations.
type recordStatements struct{ deliveries, all string }

func recordStatementsIn(schema string) recordStatements {
	return recordStatements{deliveries: inSchema(recordDeliveriesSQL, schema), all: inSchema(recordSQL, schema)}
}

// recordDeliveriesSQL does for endpoints at which everything in a batch was delivered, which is the rule. It has a third
// of the other's columns and clauses, and takes two thirds of its time.
const recordDeliveriesSQL = `WITH finished AS (
    DELETE FROM outbox.due d
    USING unnest($2::text[]::uuid[], $3::integer[], $4::integer[], $5::bigint[], $6::integer[], $7::text[], $8::text[])
        AS r (message_id, attempt, duration_ms, ago_ms, status_code, response, note)
    WHERE ` + fenceSQL + `
    RETURNING d.endpoint, r.*
),
logged AS (
    INSERT INTO outbox.attempt (message_id, attempt, started_at, duration_ms, class, status_code, response, note, worker)
    SELECT message_id, attempt, now() - ago_ms * interval '1 ms', duration_ms, 'delivered', status_code, response, note, $1
    FROM finished
)
UPDATE outbox.endpoint e SET ` + closedSQL + `
WHERE e.endpoint = ANY (ARRAY(SELECT DISTINCT endpoint FROM finished)) AND e.failures <> 0
RETURNING e.endpoint, 'closed', e.reason, e.open_until`

// fenceSQL joins results with the rows that they may touch. The array keeps it from being done in any other way than by
// the key, row by row: for = there is a plan that reads all of the index, and it looks better while little is due.
const fenceSQL = `d.message_id = ANY (ARRAY[r.message_id]) AND d.attempt = r.attempt AND d.locked_by = $1`

// closedSQL is what becomes of an open or failing endpoint that answers. Where failures is not 0, and not where it is
// more: that would lead through the index of all that are failing.
const closedSQL = `failures = 0, openings = 0, probing = false, open_until = NULL, since = now(),
    reason = CASE WHEN e.paused THEN e.reason ELSE 'answers' END`

// recordSQL does for whatever happened.
const recordSQL = `WITH r AS (
    SELECT * FROM unnest($2::text[]::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::bigint[],
                         $9::text[], $10::integer[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::boolean[],
                         $17::text[], $18::boolean[])
        AS r (message_id, attempt, action, delay_ms, reason, duration_ms, ago_ms,
              class, status_code, error, response, note, endpoint, hold_ms, pause, waits_for, sick)
),
finished AS (
    DELETE FROM outbox.due d USING r
    WHERE ` + fenceSQL + ` AND r.action IN ('delivered', 'dead')
    RETURNING r.*
),
kept AS (
    UPDATE outbox.due d
    SET locked_by = NULL, locked_until = NULL, waits_for = r.waits_for, attempt = d.attempt - (r.action <> 'retry')::integer,
        due_at = CASE WHEN r.action = 'release' THEN d.due_at ELSE now() + r.delay_ms * interval '1 ms' END
    FROM r
    WHERE ` + fenceSQL + ` AND r.action IN ('retry', 'release', 'wait')
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
           CASE WHEN bool_and(sick) THEN count(*) ELSE 0 END::integer AS failures,
           max(coalesce('answered ' || status_code, class)) FILTER (WHERE sick) AS fault
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
    UPDATE outbox.endpoint e SET ` + closedSQL + `
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

// run records until in is closed and everything in it is written, or until ctx ends, which loses what is unwritten: it
// is delivered again when its lease ends.
func (r *recorder) run(ctx context.Context) {
	for first := range r.in {
		batch := r.gather(first)
		if err := r.write(ctx, batch); err != nil {
			r.logger.ErrorContext(ctx, "answers not recorded; their messages will be delivered again",
				"messages", len(batch), "error", err)
		}
	}
}

func (r *recorder) gather(first result) []result {
	batch := make([]result, 1, 64)
	batch[0] = first
	var paced <-chan time.Time
	if left := batchPace - time.Since(r.last); r.stream && left > 0 {
		paced = time.After(left)
	}
	for len(batch) < batchMax {
		select {
		case next, ok := <-r.in:
			if !ok {
				return batch
			}
			batch = append(batch, next)
			continue
		default:
		}
		if paced == nil || len(batch) >= batchWorth {
			break
		}
		select {
		case next, ok := <-r.in:
			if !ok {
				return batch
			}
			batch = append(batch, next)
		case <-paced:
			paced = nil
		}
	}
	r.last, r.stream = time.Now(), len(batch) >= batchOfStream
	return batch
}

// write retries while the database is away. A batch that the database refuses is written row by row, so that one row
// cannot take the others with it.
func (r *recorder) write(ctx context.Context, batch []result) error {
	for {
		err := r.writeOnce(ctx, batch)
		switch {
		case err == nil:
			r.outage.over()
			return nil
		case isDatabaseRefusal(err) && len(batch) > 1:
			var faults []error
			for i := range batch {
				if err := r.write(ctx, batch[i:i+1]); err != nil {
					faults = append(faults, err)
				}
			}
			return errors.Join(faults...)
		case isDatabaseRefusal(err):
			return fmt.Errorf("message %s: %w", batch[0].id, err)
		}
		if r.outage.wait(ctx, err) != nil {
			return err
		}
	}
}

func (r *recorder) writeOnce(ctx context.Context, batch []result) error {
	ctx, cancel := context.WithTimeoutCause(ctx, recordTimeout, fmt.Errorf("record took longer than %v", recordTimeout))
	defer cancel()
	deliveries, others := split(batch)
	var changes []endpointChange
	err := hotBatch(ctx, r.pool, func(b *pgx.Batch) {
		if len(deliveries) > 0 {
			b.Queue(r.sql.deliveries, r.deliveryColumns(deliveries)...)
		}
		if len(others) > 0 {
			b.Queue(r.sql.all, r.columns(others)...)
		}
	}, func(results pgx.BatchResults) error {
		for _, part := range [][]result{deliveries, others} {
			if len(part) == 0 {
				continue
			}
			changed, err := collect(results, pgx.RowToStructByPos[endpointChange])
			if err != nil {
				return err
			}
			changes = append(changes, changed...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	for _, c := range changes {
		c.log(ctx, r.logger)
	}
	return nil
}

// isDatabaseRefusal reports an answer of the database that will be the same next time: a data or constraint fault.
func isDatabaseRefusal(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "22") || strings.HasPrefix(pgErr.Code, "23"))
}

// split parts the deliveries at endpoints where nothing else happened from all other results: an endpoint's health is
// judged by all that it answered in the batch.
func split(batch []result) (deliveries, others []result) {
	mixed := map[string]bool{}
	for i := range batch {
		if batch[i].action != actionDelivered {
			mixed[batch[i].endpoint] = true
		}
	}
	if len(mixed) == 0 {
		return batch, nil
	}
	for i := range batch {
		if mixed[batch[i].endpoint] {
			others = append(others, batch[i])
		} else {
			deliveries = append(deliveries, batch[i])
		}
	}
	return deliveries, others
}

// deliveryColumns turns results into the arguments of recordDeliveriesSQL.
func (r *recorder) deliveryColumns(batch []result) []any {
	n := len(batch)
	ids, attempts, durations, agos := make([]string, n), make([]int32, n), make([]int32, n), make([]int64, n)
	codes, responses, notes := make([]int32, n), make([]*string, n), make([]*string, n)
	for i := range batch {
		x := &batch[i]
		ids[i], attempts[i] = x.id.String(), int32(x.attempt)
		durations[i], agos[i] = int32(x.duration.Milliseconds()), time.Since(x.startedAt).Milliseconds()
		codes[i], responses[i], notes[i] = int32(x.statusCode), orNull(x.response), orNull(x.note)
	}
	return []any{r.worker, ids, attempts, durations, agos, codes, responses, notes}
}

// columns turns results into the arguments of recordSQL, of types that every mode of the protocol can write.
func (r *recorder) columns(batch []result) []any {
	n := len(batch)
	ids, attempts, actions := make([]string, n), make([]int32, n), make([]string, n)
	delays, reasons, durations, agos := make([]int64, n), make([]*string, n), make([]int32, n), make([]int64, n)
	classes, codes, errs := make([]string, n), make([]*int32, n), make([]*string, n)
	responses, notes, endpoints := make([]*string, n), make([]*string, n), make([]string, n)
	holds, pauses, waits, sick := make([]int64, n), make([]bool, n), make([]*string, n), make([]bool, n)
	for i := range batch {
		x := &batch[i]
		ids[i], attempts[i], actions[i] = x.id.String(), int32(x.attempt), string(x.action)
		delays[i], reasons[i] = x.delay.Milliseconds(), orNull(x.reason)
		durations[i], agos[i] = int32(x.duration.Milliseconds()), time.Since(x.startedAt).Milliseconds()
		classes[i], errs[i] = x.class, orNull(x.err)
		if x.statusCode != 0 {
			code := int32(x.statusCode)
			codes[i] = &code
		}
		responses[i], notes[i], endpoints[i] = orNull(x.response), orNull(x.note), x.endpoint
		holds[i], pauses[i] = x.hold.Milliseconds(), x.pause
		waits[i], sick[i] = orNull(x.waitsFor), x.sick()
	}
	return []any{
		r.worker, ids, attempts, actions, delays, reasons, durations, agos, classes, codes, errs, responses, notes, endpoints, holds, pauses,
		waits, sick, r.openAfter, r.openFor.Milliseconds(), r.openForMax.Milliseconds(),
	}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
