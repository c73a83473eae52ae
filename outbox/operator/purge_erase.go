package operator

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// eraseBatch erases messages in one transaction. It locks each message against retention and replays, and its due row against
// claims. It does not wait for a row that another session has locked, and leaves one under a lease, whose request is in flight.
// Both are tried again.
func (p *Purge) eraseBatch(ctx context.Context, ids []outbox.ID, counts *PurgeCounts) error {
	var done PurgeCounts
	var busy []outbox.ID
	err := pgx.BeginFunc(ctx, p.store.db, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', '500ms', true)`); err != nil {
			return err
		}
		free, err := p.lockFree(ctx, tx, ids)
		if err != nil {
			return err
		}
		busy, err = p.stillThere(ctx, tx, ids, free)
		if err != nil || len(free) == 0 {
			return err
		}
		done, err = p.eraseLocked(ctx, tx, free)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range busy {
		p.left[id] = struct{}{}
	}
	counts.add(done)
	return nil
}

// lockFree locks the messages that no session has locked and no worker has leased, and returns them.
func (p *Purge) lockFree(ctx context.Context, tx pgx.Tx, ids []outbox.ID) ([]outbox.ID, error) {
	locked, err := p.ids(ctx, tx, `SELECT id FROM outbox.message WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])
ORDER BY id FOR UPDATE SKIP LOCKED`, ids)
	if err != nil {
		return nil, err
	}
	waiting, err := p.ids(ctx, tx, `SELECT message_id FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])
ORDER BY message_id FOR UPDATE SKIP LOCKED`, locked)
	if err != nil {
		return nil, err
	}
	// No lease lasts two days: a longer one was written by hand, or the clock was set back.
	claimed, err := p.ids(ctx, tx, `SELECT message_id FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])
  AND locked_until OPERATOR(pg_catalog.>) pg_catalog.now() AND locked_until OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.+) '2 days'::interval)`, locked)
	if err != nil {
		return nil, err
	}
	due, err := p.ids(ctx, tx, `SELECT message_id FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])`, locked)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(locked, func(id outbox.ID) bool {
		return slices.Contains(claimed, id) || slices.Contains(due, id) && !slices.Contains(waiting, id)
	}), nil
}

// stillThere returns the messages that are neither free nor gone.
func (p *Purge) stillThere(ctx context.Context, tx pgx.Tx, ids, free []outbox.ID) ([]outbox.ID, error) {
	if len(free) == len(ids) {
		return nil, nil
	}
	others := slices.DeleteFunc(slices.Clone(ids), func(id outbox.ID) bool { return slices.Contains(free, id) })
	return p.ids(ctx, tx, `SELECT id FROM outbox.message WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])`, others)
}

func (p *Purge) ids(ctx context.Context, tx pgx.Tx, sql string, ids []outbox.ID) ([]outbox.ID, error) {
	rows, err := tx.Query(ctx, p.store.in(sql), uuid7.Texts(ids))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[outbox.ID])
}

// unownedRuns selects, among some run ids, the runs that no message belongs to any more. The run ids of the two tables have different
// collations; message's has the index.
const unownedRuns = `FROM outbox.riverstep_run r WHERE r.run_id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])
  AND NOT EXISTS (SELECT FROM outbox.message m WHERE m.run_id OPERATOR(pg_catalog.=) r.run_id COLLATE pg_catalog."default")`

// eraseLocked erases messages whose rows are locked, and the runs that no other message belongs to.
func (p *Purge) eraseLocked(ctx context.Context, tx pgx.Tx, ids []outbox.ID) (done PurgeCounts, err error) {
	for _, each := range []struct {
		table, key string
		n          *int64
	}{{"attempt", "message_id", &done.Attempts}, {"dead", "message_id", &done.Dead}, {"due", "message_id", &done.Due}} {
		tag, err := tx.Exec(ctx, p.store.in(`DELETE FROM outbox.`+each.table+` WHERE `+each.key+` OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])`), uuid7.Texts(ids))
		if err != nil {
			return done, err
		}
		*each.n = tag.RowsAffected()
	}
	rows, err := tx.Query(ctx, p.store.in(`DELETE FROM outbox.message WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])
RETURNING run_id, dedupe_key IS NOT NULL, replay_of IS NOT NULL`), uuid7.Texts(ids))
	if err != nil {
		return done, err
	}
	var runs []string
	var run string
	var keyed, copied bool
	_, err = pgx.ForEachRow(rows, []any{&run, &keyed, &copied}, func() error {
		runs = append(runs, run)
		done.Messages++
		if keyed {
			done.DedupeKeys++
		}
		if copied {
			done.Copies++
		}
		return nil
	})
	if err != nil {
		return done, err
	}
	return done, p.eraseRuns(ctx, tx, runs, &done)
}

// eraseRuns erases the given runs that have ended and that no message belongs to, and counts the active ones.
func (p *Purge) eraseRuns(ctx context.Context, tx pgx.Tx, runs []string, counts *PurgeCounts) error {
	var active int64
	err := tx.QueryRow(ctx, p.store.in(`SELECT pg_catalog.count(*) `+unownedRuns+` AND r.status OPERATOR(pg_catalog.=) 'active'::pg_catalog.text`), runs).Scan(&active)
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, p.store.in(`DELETE `+unownedRuns+` AND r.status OPERATOR(pg_catalog.<>) 'active'::pg_catalog.text`), runs)
	counts.Runs += tag.RowsAffected()
	counts.ActiveRuns += active
	return err
}
