package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// rowKinds are the faults of single rows, and forgotten locks.
func rowKinds() []kind {
	return []kind{
		{"lock-rows", drawLockRows},
		{"lock-origin", drawLockOrigin},
		{"lock-table", drawLockTable},
		{"poison", drawPoison},
		{"bad-limits", drawBadLimits},
		{"cursed", drawCursed},
	}
}

// hold runs a statement in a transaction that stays open until undo. The fault touches the messages that it returns.
func (s *stage) hold(ctx context.Context, touch touch, sql string, args ...any) (_ undo, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		_, _ = conn.Exec(ctx, "ROLLBACK") // the locks must be free on return; a crash may have ended the session
		_ = conn.Close(ctx)
		return nil
	}
	if _, err = conn.Exec(ctx, "BEGIN; SET LOCAL lock_timeout = '5s'"); err != nil {
		return undo, err
	}
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return undo, err
	}
	return undo, touchAll(rows, touch)
}

func touchAll(rows pgx.Rows, touch touch) error {
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, id := range ids {
		touch(id)
	}
	return err
}

// drawLockRows plans that a forgotten session has locked some due rows.
func drawLockRows(s *stage, r *rand.Rand) planned {
	p := planned{kind: "lock-rows", group: "locks", detail: "SELECT FOR UPDATE of due rows", length: between(r, time.Second, 8*time.Second)}
	most := 1 + r.IntN(20)
	p.make = func(ctx context.Context, touch touch) (undo, error) {
		return s.hold(ctx, touch, `SELECT message_id::text FROM outbox.due ORDER BY random() LIMIT $1 FOR UPDATE`, most)
	}
	return p
}

// drawLockOrigin plans the same with the row of one origin.
func drawLockOrigin(s *stage, r *rand.Rand) planned {
	o := s.receiver.origins[r.IntN(len(s.receiver.origins))]
	return planned{
		kind: "lock-origin", group: "locks", detail: "SELECT FOR UPDATE of the endpoint row of " + o.url + " (" + o.name + ")",
		touches: touches{origins: []string{o.url}}, length: between(r, time.Second, 8*time.Second),
		make: func(ctx context.Context, touch touch) (undo, error) {
			return s.hold(ctx, touch, `SELECT endpoint FROM outbox.endpoint WHERE endpoint = $1 FOR UPDATE`, o.url)
		},
	}
}

// drawLockTable plans a lock on a table, as a migration or a VACUUM FULL takes it. River's tables are among them.
func drawLockTable(s *stage, r *rand.Rand) planned {
	tables := []string{"outbox.due", "outbox.endpoint", "outbox.attempt", "outbox.message", "outbox.dead", "outbox.river_job", "outbox.river_leader", "outbox.riverstep_run"}
	modes := []string{"SHARE", "ACCESS EXCLUSIVE"}
	table, mode := tables[r.IntN(len(tables))], modes[r.IntN(len(modes))]
	return planned{
		kind: "lock-table", group: databaseGroup, detail: table + " IN " + mode + " MODE", touches: touches{everything: true},
		length: between(r, time.Second, 5*time.Second),
		make: func(ctx context.Context, touch touch) (undo, error) {
			return s.hold(ctx, touch, "LOCK TABLE "+table+" IN "+mode+" MODE")
		},
	}
}

// poisons are rows that the hook never writes. dueAt and attempt are SQL expressions; an empty url means that of the origin.
var poisons = []struct{ what, dueAt, attempt, url, options string }{
	{"due at -infinity", "'-infinity'", "0", "", `{}`},
	{"due at infinity", "'infinity'", "0", "", `{}`},
	{"attempt at the integer's bound", "now()", "2147483647", "", `{}`},
	{"a timeout that is no number", "now()", "0", "", `{"timeout_ms": {}}`},
	{"a timeout of 1e300 ms", "now()", "0", "", `{"timeout_ms": 1e300}`},
	{"forwarded headers that are numbers", "now()", "0", "", `{"forward": [1, 2]}`},
	{"an invalid URL", "now()", "0", "http://[::1", `{}`},
}

// drawPoison plans a row written by hand, and one without a message. They stay, and stop no other message.
func drawPoison(s *stage, r *rand.Rand) planned {
	p := poisons[r.IntN(len(poisons))]
	o := s.receiver.origins[r.IntN(len(s.receiver.origins))]
	id, orphan := outbox.NewID().String(), outbox.NewID().String()
	url := p.url
	if url == "" {
		url = o.url + hookPath
	}
	return planned{
		kind: "poison", group: "poison", detail: p.what + " at " + o.url, touches: touches{messages: []string{id, orphan}},
		length: between(r, 0, time.Second),
		make: func(ctx context.Context, touch touch) (undo, error) {
			s.poison.add(id)
			s.poison.add(orphan)
			_, err := s.admin.Exec(ctx, `WITH m AS (
    INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, options)
    VALUES ($1::text::uuid, 'poison-' || $1::text, 'succeeded', 'poison', 0, $2, $3, $4::text::jsonb))
INSERT INTO outbox.due (message_id, endpoint, due_at, attempt) VALUES ($1::text::uuid, $3, `+p.dueAt+`, `+p.attempt+`), ($5::text::uuid, $3, '2000-01-01', 0)`,
				id, url, o.url, p.options, orphan)
			return nil, err
		},
	}
}

// drawBadLimits plans an operator's mistake, which the constraints of older versions accepted. It may delay its origin only.
func drawBadLimits(s *stage, r *rand.Rand) planned {
	o := s.receiver.origins[r.IntN(len(s.receiver.origins))]
	bad := []string{
		"rate_per_second = 'NaN'", "rate_per_second = 'Infinity'", "rate_per_second = 1e-300", "rate_per_second = 1e308", "rate_per_second = -1",
		"max_in_flight = 2147483647", "max_in_flight = -1", "granted_at = 'infinity', rate_per_second = 5",
		"failures = 2147483647, openings = 2147483647", "open_until = '-infinity'",
	}[r.IntN(10)]
	return planned{
		kind: "bad-limits", group: "limits", detail: bad + " for " + o.url, touches: touches{origins: []string{o.url}},
		length: between(r, time.Second, 6*time.Second),
		make: func(ctx context.Context, touch touch) (undo, error) {
			_, err := s.admin.Exec(ctx, `INSERT INTO outbox.endpoint (endpoint, reason) VALUES ($1, 'by hand') ON CONFLICT DO NOTHING`, o.url)
			if err == nil {
				_, err = s.admin.Exec(ctx, `UPDATE outbox.endpoint SET `+bad+` WHERE endpoint = $1`, o.url)
			}
			return func(ctx context.Context) error {
				return s.untilDone(ctx, `DELETE FROM outbox.endpoint WHERE endpoint = '`+o.url+`'`)
			}, err
		},
	}
}

// drawCursed plans that a trigger refuses every record of a few messages that are due at that moment.
func drawCursed(s *stage, r *rand.Rand) planned {
	length := between(r, time.Second, 6*time.Second)
	return planned{
		kind: "cursed", group: "cursed", detail: "a trigger refuses whatever is recorded of some messages", length: length,
		make: func(ctx context.Context, touch touch) (undo, error) {
			undo := func(ctx context.Context) error { return s.untilDone(ctx, `DELETE FROM chaos.cursed`) }
			rows, err := s.admin.Query(ctx, `INSERT INTO chaos.cursed SELECT message_id FROM outbox.due LIMIT 3 ON CONFLICT DO NOTHING RETURNING message_id::text`)
			if err != nil {
				return undo, err
			}
			return undo, touchAll(rows, func(id string) { s.poison.add(id); touch(id) })
		},
	}
}

// untilDone repeats a statement until it succeeds: another fault must not prevent the undoing of this one.
func (s *stage) untilDone(ctx context.Context, statement string) error {
	for {
		_, err := s.admin.Exec(ctx, statement)
		if err == nil || !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// prepareRows creates the trigger that refuses cursed messages, and drops the constraints that refuse bad limits.
const prepareRows = `
CREATE TABLE chaos.cursed (message_id uuid PRIMARY KEY);
CREATE FUNCTION chaos.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM chaos.cursed c WHERE c.message_id = NEW.message_id) THEN
        RAISE EXCEPTION 'message % is cursed', NEW.message_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON outbox.attempt FOR EACH ROW EXECUTE FUNCTION chaos.refuse();
ALTER TABLE outbox.endpoint
    DROP CONSTRAINT endpoint_failures, DROP CONSTRAINT endpoint_openings, DROP CONSTRAINT endpoint_max_in_flight,
    DROP CONSTRAINT endpoint_rate_per_second, DROP CONSTRAINT endpoint_open_until_range, DROP CONSTRAINT endpoint_granted_at_range;
`
