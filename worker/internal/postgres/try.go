package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// trySettings bound what tryRecordSQL can still wait for: a table that is locked as a whole, or a row that another
// transaction is about to insert.
const trySettings = hotSettings + `, set_config('lock_timeout', '20ms', true)`

// leaseOfHeld is for how long the lease of a held result is prolonged, where its row allows it.
const leaseOfHeld = 15 * time.Second

// tryRecordSQL records what needs no lock that another transaction has. It is recordSQL with another beginning:
//
// says is what the results say about lanes. ends are the rows of these lanes that it could lock. busy are the lanes whose rows others have locked.
//
// free are the due rows of the results that it could lock.
//
// r are the results to be recorded: their due row is free. Where the endpoint is busy, what they say about its health is
// left out. That costs a failure that is not counted, or a circuit breaker that the next answer closes. A result that
// holds back a lane, or that may be its probe's, waits as a whole: no other result says the same.
//
// waiting are those that only wait for their endpoint: renewed prolongs their leases, so that they are not delivered again meanwhile.
//
// The last rows name the results that are held, and say how many were recorded.
const tryRecordSQL = tryUpToChanges + tryChangesLeft + endpointChanges + tryChangesRight

const tryUpToChanges = `WITH given AS MATERIALIZED (
    ` + givenResults + `
),
says AS MATERIALIZED (
    ` + givenSayings + `
),
ends AS MATERIALIZED (
    SELECT e.endpoint FROM outbox.endpoint e
    WHERE e.endpoint = ANY (ARRAY(SELECT endpoint FROM says)) AND NOT $25::boolean
    ORDER BY e.endpoint FOR NO KEY UPDATE SKIP LOCKED
),
busy AS MATERIALIZED (
    SELECT e.endpoint, e.probing FROM outbox.endpoint e
    WHERE e.endpoint = ANY (ARRAY(SELECT endpoint FROM says)) AND e.endpoint <> ALL (ARRAY(SELECT endpoint FROM ends)) AND NOT $25
),
mine AS MATERIALIZED (
    SELECT r.message_id, r.attempt FROM given r JOIN outbox.due d ON ` + fence + `
),
free AS MATERIALIZED (
    SELECT d.message_id FROM given r JOIN outbox.due d ON ` + fence + ` FOR UPDATE OF d SKIP LOCKED
),
r AS MATERIALIZED (
    SELECT g.* FROM given g
    WHERE g.message_id IN (SELECT message_id FROM free) AND NOT EXISTS (
        SELECT FROM busy b JOIN says s ON s.endpoint = b.endpoint WHERE s.message_id = g.message_id
        AND (s.half_open OR s.hold_ms > 0 OR b.probing AND g.class <> '' AND g.class <> 'blocked'))
),
held AS MATERIALIZED (
    SELECT message_id, attempt FROM mine EXCEPT SELECT message_id, attempt FROM r
),
waiting AS MATERIALIZED (
    SELECT g.message_id, g.attempt FROM given g
    WHERE g.message_id IN (SELECT message_id FROM free INTERSECT SELECT message_id FROM held)
),
renewed AS (
    UPDATE outbox.due d SET locked_until = greatest(d.locked_until, now() + $26::bigint * interval '1 ms')
    FROM waiting r WHERE ` + fence + `
),
` + recordParts + recordChanges + `    WHERE NOT $25 AND endpoint <> ALL (ARRAY(SELECT endpoint FROM busy))
),
` + recordEndpoints

const (
	tryChangesLeft  = `SELECT *, NULL::text AS message_id, 0 AS n, false AS busy FROM (`
	tryChangesRight = `) c
UNION ALL
SELECT '', 'held', '', NULL, false, message_id::text, attempt, false FROM held
UNION ALL
SELECT '', 'recorded', '', NULL, false, NULL, (SELECT count(*) FROM settled)::integer, EXISTS (SELECT FROM busy)`
)

// Tried is the result of TryRecord for a batch.
type Tried struct {
	Changes  []EndpointChange
	Held     []int // indices of the results that are not recorded: another transaction has locked a row that they need
	Recorded int   // attempts that are now recorded
	Busy     bool  // another transaction has locked the row of an endpoint in the batch
}

// TryRecord records those results of a batch that need no lock of another transaction, in one transaction and without
// waiting for a lock. If withoutEndpoints, it changes no endpoint. Its errors are those of Record; then nothing of the batch is
// recorded.
func (r *Recorder) TryRecord(ctx context.Context, batch []Result, withoutEndpoints bool) (tried Tried, err error) {
	type row struct {
		EndpointChange
		ID   *string
		N    int // the attempt that is held, or how many are recorded
		Busy bool
	}
	var rows []row
	began := time.Now()
	defer func() { r.metrics.recorded(began, batch, tried.Held, err) }()
	err = r.config.Events.tell(func(t Telling) error {
		return within(ctx, "record", RecordTimeout, func(ctx context.Context) error {
			queue := func(b *pgx.Batch) {
				b.Queue(r.sql[t].try, append(r.args(inLockOrder(batch)), withoutEndpoints, leaseOfHeld.Milliseconds())...)
			}
			return hotBatchUnder(ctx, r.db, trySettings, queue, func(results pgx.BatchResults) (err error) {
				rows, err = collect(results, pgx.RowToStructByPos[row])
				return err
			})
		})
	})
	if err != nil {
		return Tried{}, err
	}
	type claim struct {
		id      string
		attempt int
	}
	held := map[claim]bool{}
	for _, x := range rows {
		switch {
		case x.ID != nil:
			held[claim{*x.ID, x.N}] = true
		case x.What == "recorded":
			tried.Recorded, tried.Busy = x.N, x.Busy
		default:
			tried.Changes = append(tried.Changes, x.EndpointChange)
		}
	}
	for i := range batch {
		if len(held) > 0 && held[claim{batch[i].ID.String(), batch[i].Attempt}] {
			tried.Held = append(tried.Held, i)
		}
	}
	tried.Changes = r.tellDeaths(tried.Changes, batch)
	return tried, nil
}

const pauseRefusedSQL = `INSERT INTO outbox.endpoint AS e (endpoint, paused, reason) VALUES ($1, true, $2)
ON CONFLICT (endpoint) DO UPDATE SET paused = true, reason = excluded.reason, since = now() WHERE NOT e.paused
RETURNING endpoint, 'paused' AS what, reason, NULL::timestamptz AS open_until, false AS was_open`

// tryHealthSQL changes an endpoint as recordSQL does for its results, whether their messages are still due or not.
const tryHealthSQL = `WITH r AS (
    ` + givenResults + `
),
settled AS (
    SELECT * FROM r WHERE $1::text IS NOT NULL
),
kept AS (
    SELECT * FROM r WHERE false
),
` + recordChanges + `),
` + recordEndpoints + `SELECT FROM remembered`

// PauseRefused pauses the lanes whose change by a result the database refuses.
func (r *Recorder) PauseRefused(ctx context.Context, x Result, why string) (changes []EndpointChange, err error) {
	for _, said := range x.Says {
		alone := x
		alone.Says = []Saying{said}
		paused, err := r.pauseRefused(ctx, alone, said.Lane, why)
		changes = append(changes, paused...)
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

func (r *Recorder) pauseRefused(ctx context.Context, x Result, lane, why string) (changes []EndpointChange, err error) {
	err = within(ctx, "pause an endpoint", RecordTimeout, func(ctx context.Context) error {
		return r.db.transact(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, recordSettings); err != nil {
				return err
			}
			change := func(trial pgx.Tx) error {
				_, err := trial.Exec(ctx, r.sql[Quiet].health, r.args([]*Result{&x})...)
				return err
			}
			refused, err := stillRefused(ctx, tx, r.sql[Quiet].lock, lane, change, IsRefusal)
			if err != nil || !refused {
				return err
			}
			return r.config.Events.tell(func(t Telling) error { // a savepoint: without events, the transaction goes on
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					rows, err := tx.Query(ctx, r.sql[t].pause, lane, "poison: the database refused to change this row: "+why)
					if err != nil {
						return err
					}
					changes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[EndpointChange])
					return err
				})
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// holdersSQL finds the sessions whose transactions have locked or changed the rows of some results. Sessions that share
// a lock are not found.
const holdersSQL = `SELECT DISTINCT l.pid FROM (
    SELECT d.xmax FROM outbox.due d WHERE d.message_id = ANY ($1::text[]::uuid[])
    UNION ALL
    SELECT e.xmax FROM outbox.endpoint e WHERE e.endpoint = ANY ($2::text[])
) r JOIN pg_locks l ON l.transactionid = r.xmax AND l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
ORDER BY l.pid LIMIT 10`

// Holders returns the process ids of server sessions that hold the rows of results, as far as that can be seen.
func (r *Recorder) Holders(ctx context.Context, held []Result) (pids []int32, err error) {
	ids, endpoints := make([]string, len(held)), make([]string, len(held))
	for i := range held {
		ids[i], endpoints[i] = held[i].ID.String(), held[i].Endpoint
	}
	err = within(ctx, "find who holds rows", holdersTimeout, func(ctx context.Context) error {
		return r.db.transact(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, r.sql[Quiet].holders, ids, endpoints)
			if err != nil {
				return err
			}
			pids, err = pgx.CollectRows(rows, pgx.RowTo[int32])
			return err
		})
	})
	return pids, err
}

const holdersTimeout = time.Second
