package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Teller makes messages of noted events (package event). One worker at a time does so; the others have nothing to do.
type Teller struct {
	db     *DB
	sql    tellerStatements
	config TellerConfig
	seenAt time.Time // when this process last wrote that events are wanted
}

// TellerConfig is checked by the worker, not here.
type TellerConfig struct {
	Schema string
	Every  time.Duration // between two messages of one endpoint and kind
}

type tellerStatements struct{ usable, due, lock, wanted, take, rows, write, wait, prune, note string }

const (
	tellTimeout = 10 * time.Second
	tellMost    = 10_000 // notes at once; the next run takes the rest
	wantedEvery = time.Minute
)

const (
	// eventsUsableSQL returns why events cannot be written: tables are missing, or this role may not use them.
	eventsUsableSQL = `SELECT CASE WHEN outbox.version() < 9 THEN 'the tables are older than events; run ''outbox-worker migrate up'''
    WHEN to_regclass('outbox.event') IS NULL OR to_regclass('outbox.event_told') IS NULL OR to_regclass('outbox.event_wanted') IS NULL THEN 'a table for events is missing'
    WHEN NOT has_table_privilege('outbox.event', 'SELECT') OR NOT has_table_privilege('outbox.event', 'INSERT') OR NOT has_table_privilege('outbox.event', 'DELETE')
      OR NOT has_table_privilege('outbox.event', 'UPDATE') OR NOT has_table_privilege('outbox.event_told', 'SELECT') OR NOT has_table_privilege('outbox.event_told', 'INSERT')
      OR NOT has_table_privilege('outbox.event_told', 'UPDATE') OR NOT has_table_privilege('outbox.event_told', 'DELETE') OR NOT has_table_privilege('outbox.event_wanted', 'SELECT')
      OR NOT has_table_privilege('outbox.event_wanted', 'INSERT') OR NOT has_table_privilege('outbox.event_wanted', 'UPDATE') OR NOT has_table_privilege('outbox.message', 'INSERT')
      THEN 'this role may not read and write event, event_told and event_wanted, and insert into message' ELSE '' END`

	// eventsDueSQL says whether there is anything to do. Both tables are small.
	eventsDueSQL = `SELECT EXISTS (SELECT FROM outbox.event) OR EXISTS (
    SELECT FROM outbox.event_told WHERE n > 0 AND told_at <= now() - $1::interval)`

	tellerLockSQL = `SELECT pg_try_advisory_xact_lock(hashtextextended('outbox.event', 0))`

	eventsWantedSQL = `INSERT INTO outbox.event_wanted AS w (one, seen) VALUES (true, now()) ON CONFLICT (one) DO UPDATE SET seen = excluded.seen`

	// takeEventsSQL removes notes and returns them. Notes older than a day, because no worker wrote events meanwhile, are only removed.
	// What somebody wrote by hand is brought within bounds: a lane and a kind fit the index of event_told, and counts can be added up.
	takeEventsSQL = `WITH taken AS (
    DELETE FROM outbox.event v WHERE v.id = ANY (ARRAY(SELECT id FROM outbox.event LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING v.*
)
SELECT CASE WHEN at > now() - interval '1 day' THEN least(at, now()) END, left(kind, 64), CASE WHEN octet_length(lane) <= 2300 THEN lane ELSE '' END,
       greatest(least(n, 1000000000), 1), left(coalesce(reason, ''), 1000), coalesce(message_id::text, '') FROM taken`

	toldEventsSQL = `SELECT endpoint, kind, told_at > now() - $1::interval, CASE WHEN n > 0 THEN detail::text END FROM outbox.event_told`

	// writeEventsSQL writes messages, and notes that they are written. The lane of an event is no tenant's.
	writeEventsSQL = `WITH told AS MATERIALIZED (
    SELECT * FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS t (id, endpoint, kind, body, tenant)
),
written AS (
    INSERT INTO outbox.event_told AS e (endpoint, kind, told_at) SELECT endpoint, kind, now() FROM told
    ON CONFLICT (endpoint, kind) DO UPDATE SET told_at = excluded.told_at, n = 0, detail = NULL
),
message AS (
    INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, options, tenant, kind)
    SELECT id, $6::text || id, 'succeeded', convert_to(body, 'UTF8'), 0, $7::text, $8::text, $9::text::jsonb, nullif(tenant, ''), 'event' FROM told
)
INSERT INTO outbox.due (message_id, endpoint) SELECT id, $8::text FROM told`

	waitEventsSQL = `UPDATE outbox.event_told e SET n = w.n, detail = w.detail::jsonb
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS w (endpoint, kind, n, detail)
WHERE e.endpoint = w.endpoint AND e.kind = w.kind`

	// pruneToldSQL removes rows of events that were written long ago. A missing worker's row is kept until nobody notices it any more.
	pruneToldSQL = `DELETE FROM outbox.event_told WHERE n = 0 AND told_at < now() - greatest($1::interval, CASE WHEN kind = 'worker.missing' THEN interval '2 days' ELSE interval '0' END)`

	noteEventsSQL = `INSERT INTO outbox.event (kind, lane, n, reason)
SELECT kind, lane, 1, nullif(reason, '') FROM unnest($1::text[], $2::text[], $3::text[]) AS v (kind, lane, reason)`
)

// NewTeller returns a teller.
func NewTeller(db *DB, c TellerConfig) *Teller {
	in := func(sql string) string { return sqlschema.In(sql, c.Schema) }
	return &Teller{db: db, config: c, sql: tellerStatements{
		usable: in(eventsUsableSQL), due: in(eventsDueSQL), lock: in(tellerLockSQL), wanted: in(eventsWantedSQL), take: in(takeEventsSQL), rows: in(toldEventsSQL),
		write: in(writeEventsSQL), wait: in(waitEventsSQL), prune: in(pruneToldSQL), note: in(noteEventsSQL),
	}}
}

// Usable returns why events cannot be written, "" when they can.
func (t *Teller) Usable(ctx context.Context) (why string, err error) {
	err = within(ctx, "look for the tables of events", tellTimeout, func(ctx context.Context) error {
		return t.db.transact(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, t.sql.usable).Scan(&why) })
	})
	return why, err
}

// Note writes notes of events that no transaction of the worker's caused.
func (t *Teller) Note(ctx context.Context, notes []event.Note) error {
	kinds, lanes, reasons := make([]string, len(notes)), make([]string, len(notes)), make([]string, len(notes))
	for i, n := range notes {
		kinds[i], lanes[i], reasons[i] = string(n.Kind), n.Lane, n.Reason
	}
	return within(ctx, "note events", tellTimeout, func(ctx context.Context) error {
		return t.db.transact(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, t.sql.note, kinds, lanes, reasons)
			return err
		})
	})
}

// Tell writes messages for the events that are due, and returns their kinds. more says that notes are left.
func (t *Teller) Tell(ctx context.Context) (told []event.Kind, more bool, err error) {
	now := time.Now()
	wanted := now.Sub(t.seenAt) >= wantedEvery // it is time to write that events are wanted
	err = within(ctx, "write events", tellTimeout, func(ctx context.Context) error {
		return t.db.transact(ctx, func(tx pgx.Tx) error {
			mine, err := t.begin(ctx, tx, wanted)
			if err == nil && mine {
				told, more, err = t.tell(ctx, tx)
			}
			wanted = wanted && mine
			return err
		})
	})
	if err != nil {
		return nil, false, err
	}
	if wanted {
		t.seenAt = now
	}
	return told, more, nil
}

// begin reports whether there is something to do and no other worker does it. Each minute it writes that events are wanted, and
// removes old rows.
func (t *Teller) begin(ctx context.Context, tx pgx.Tx, wanted bool) (mine bool, err error) {
	due := wanted
	if !due {
		if err := tx.QueryRow(ctx, t.sql.due, t.config.Every).Scan(&due); err != nil || !due {
			return false, err
		}
	}
	if err := tx.QueryRow(ctx, t.sql.lock).Scan(&mine); err != nil || !mine || !wanted {
		return mine, err
	}
	if _, err := tx.Exec(ctx, t.sql.wanted); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, t.sql.prune, 2*t.config.Every)
	return err == nil, err
}

// tell takes the notes, adds them up, and writes the events that are due.
func (t *Teller) tell(ctx context.Context, tx pgx.Tx) (told []event.Kind, more bool, err error) {
	rows, err := tx.Query(ctx, t.sql.take, tellMost)
	if err != nil {
		return nil, false, err
	}
	taken := 0
	var notes []event.Note
	var at *time.Time
	var n event.Note
	if _, err := pgx.ForEachRow(rows, []any{&at, &n.Kind, &n.Lane, &n.N, &n.Reason, &n.MessageID}, func() error {
		if taken++; at != nil {
			n.At = *at
			notes = append(notes, n)
		}
		return nil
	}); err != nil {
		return nil, false, err
	}
	before, err := t.before(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	more = taken == tellMost
	tell, wait := event.Decide(notes, before)
	if len(tell) > 0 {
		if err := t.write(ctx, tx, tell); err != nil {
			return nil, false, err
		}
	}
	for _, x := range tell {
		told = append(told, x.Kind)
	}
	return told, more, t.wait(ctx, tx, wait)
}

// before are the rows of event_told. A row that somebody wrote by hand and that cannot be read starts again.
func (t *Teller) before(ctx context.Context, tx pgx.Tx) ([]event.Told, error) {
	rows, err := tx.Query(ctx, t.sql.rows, t.config.Every)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x event.Told, err error) {
		var detail *string
		if err = row.Scan(&x.Endpoint, &x.Kind, &x.Quiet, &detail); err == nil && detail != nil {
			if json.Unmarshal([]byte(*detail), &x.Sum) != nil {
				x.Sum = event.Sum{N: 1, Since: time.Now(), Until: time.Now()}
			}
		}
		return x, err
	})
}

func (t *Teller) write(ctx context.Context, tx pgx.Tx, tell []event.Told) error {
	n := len(tell)
	ids, endpoints, kinds, bodies, tenants := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, x := range tell {
		ids[i], endpoints[i], kinds[i] = outbox.NewID().String(), x.Endpoint, string(x.Kind)
		bodies[i], tenants[i] = string(event.Body(t.config.Schema, x.Endpoint, x.Kind, x.Sum, x.Sum.Until)), x.Sum.Tenant
		if !lane.IsTenant(tenants[i]) { // a lane that somebody wrote by hand: the body names the tenant, the column would refuse it
			tenants[i] = ""
		}
	}
	_, err := tx.Exec(ctx, t.sql.write, ids, endpoints, kinds, bodies, tenants, event.RunID, event.URL, event.Lane, event.Options)
	return err
}

func (t *Teller) wait(ctx context.Context, tx pgx.Tx, wait []event.Told) error {
	if len(wait) == 0 {
		return nil
	}
	n := len(wait)
	endpoints, kinds, ns, details := make([]string, n), make([]string, n), make([]int64, n), make([]string, n)
	for i, x := range wait {
		detail, err := json.Marshal(x.Sum)
		if err != nil {
			return err
		}
		endpoints[i], kinds[i], ns[i], details[i] = x.Endpoint, string(x.Kind), x.Sum.N, string(detail)
	}
	_, err := tx.Exec(ctx, t.sql.wait, endpoints, kinds, ns, details)
	return err
}
