package operator

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// purgeable is a message that a walk found.
type purgeable struct {
	id       outbox.ID
	mine     bool // of the tenant and the run of the purge
	replayOf *outbox.ID
}

// walk reads messages in the order of their ids, up to the end. It yields those of the tenant, and copies, which may be the tenant's.
func (p *Purge) walk(ctx context.Context, f func([]purgeable, PurgeProgress) error) error {
	sql, err := p.pageSQL(ctx)
	if err != nil {
		return err
	}
	var progress PurgeProgress
	err = p.store.db.QueryRow(ctx, p.store.in(`SELECT COALESCE(
    (SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) 'outbox.message'::pg_catalog.regclass AND reltuples OPERATOR(pg_catalog.>) 0::real), 0)`)).
		Scan(&progress.About)
	if err != nil {
		return err
	}
	for from := (outbox.ID{}); ; {
		rows, err := p.store.db.Query(ctx, sql, from, p.end, orNull(p.store.tenant), orNull(p.runID), purgePage)
		if err != nil {
			return err
		}
		var walked int64
		page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m purgeable, err error) {
			err = row.Scan(&m.id, &m.mine, &m.replayOf, &walked)
			return m, err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		progress.Walked += walked
		if err := f(page, progress); err != nil {
			return err
		}
		from = page[len(page)-1].id
	}
}

// pageSQL reads a page behind an id. Its last message is always among the rows, because the next page begins behind it.
func (p *Purge) pageSQL(ctx context.Context) (string, error) {
	knows, err := p.store.knowsTenants(ctx)
	if err != nil {
		return "", err
	}
	run := "true"
	if p.runID != "" { // then the index on run_id is used
		run = `run_id OPERATOR(pg_catalog.=) $4::pg_catalog.text`
	}
	return p.store.in(`WITH page AS MATERIALIZED (
    SELECT id, replay_of, COALESCE(` + ofTenant(tenantColumn(knows, "tenant"), "$3") + `, false) AND ($4::pg_catalog.text IS NULL OR ` + run + `) AS mine
    FROM outbox.message
    WHERE id OPERATOR(pg_catalog.>) $1::pg_catalog.uuid AND id OPERATOR(pg_catalog.<=) $2::pg_catalog.uuid AND ` + run + `
    ORDER BY id LIMIT $5
)
SELECT id, mine, replay_of, (SELECT pg_catalog.count(*) FROM page) FROM page
WHERE mine OR replay_of IS NOT NULL OR id OPERATOR(pg_catalog.=) (SELECT id FROM page ORDER BY id DESC LIMIT 1)
ORDER BY id`), nil
}

func (p *Purge) survey(ctx context.Context) (counts PurgeCounts, err error) {
	err = p.store.db.QueryRow(ctx, p.store.in(`SELECT COALESCE((SELECT id FROM outbox.message ORDER BY id DESC LIMIT 1), $1::pg_catalog.uuid)`), outbox.ID{}).Scan(&p.end)
	if err != nil {
		return counts, err
	}
	unowned := map[outbox.ID]outbox.ID{} // copies that name no tenant, or another one: the messages that they copy
	err = p.walk(ctx, func(page []purgeable, progress PurgeProgress) error {
		var ids []outbox.ID
		for _, m := range page {
			switch {
			case m.mine:
				ids = append(ids, m.id)
			case m.replayOf != nil:
				unowned[m.id] = *m.replayOf
			}
		}
		if len(unowned) > purgeCopiesMax {
			return fmt.Errorf("there are more than %d copies that name no tenant", purgeCopiesMax)
		}
		err := p.count(ctx, ids, &counts)
		progress.Counts = counts
		p.report(progress)
		return err
	})
	if err != nil {
		return counts, err
	}
	if err := p.resolve(ctx, unowned); err != nil {
		return counts, err
	}
	var ids []outbox.ID
	for id := range p.copies {
		if ids = append(ids, id); len(ids) == purgePage {
			if err := p.count(ctx, ids, &counts); err != nil {
				return counts, err
			}
			ids = ids[:0]
		}
	}
	if err := p.count(ctx, ids, &counts); err != nil {
		return counts, err
	}
	return counts, p.countRunsAndLanes(ctx, &counts)
}

// resolve finds the copies whose original, over any number of copies in between, is to be erased.
func (p *Purge) resolve(ctx context.Context, unowned map[outbox.ID]outbox.ID) error {
	clear(p.copies)
	roots := map[outbox.ID]bool{} // by original: whether it is to be erased
	rootOf := func(id outbox.ID) outbox.ID {
		for range len(unowned) { // a bound, in case somebody made a circle by hand
			next, ok := unowned[id]
			if !ok {
				break
			}
			id = next
		}
		return id
	}
	for id := range unowned {
		roots[rootOf(id)] = false
	}
	ids := make([]string, 0, purgePage)
	ask := func() error {
		mine, err := p.mine(ctx, ids)
		for _, id := range mine {
			roots[id] = true
		}
		ids = ids[:0]
		return err
	}
	for id := range roots {
		if ids = append(ids, id.String()); len(ids) == purgePage {
			if err := ask(); err != nil {
				return err
			}
		}
	}
	if err := ask(); err != nil {
		return err
	}
	for id := range unowned {
		if roots[rootOf(id)] {
			p.copies[id] = struct{}{}
		}
	}
	return nil
}

// mine returns which of some messages are to be erased.
func (p *Purge) mine(ctx context.Context, ids []string) ([]outbox.ID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	knows, err := p.store.knowsTenants(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := p.store.db.Query(ctx, p.store.in(`SELECT id FROM outbox.message
WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[]) AND `+ofTenant(tenantColumn(knows, "tenant"), "$2")+`
  AND ($3::pg_catalog.text IS NULL OR run_id OPERATOR(pg_catalog.=) $3::pg_catalog.text)`), ids, orNull(p.store.tenant), orNull(p.runID))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[outbox.ID])
}

// count adds what belongs to some messages.
func (p *Purge) count(ctx context.Context, ids []outbox.ID, to *PurgeCounts) error {
	if len(ids) == 0 {
		return nil
	}
	var n PurgeCounts
	err := p.store.db.QueryRow(ctx, p.store.in(`WITH asked AS MATERIALIZED (
    SELECT id, run_id, dedupe_key, replay_of FROM outbox.message WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])
)
SELECT pg_catalog.count(*), pg_catalog.count(replay_of), pg_catalog.count(dedupe_key),
       (SELECT pg_catalog.count(*) FROM outbox.attempt WHERE message_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT id FROM asked))),
       (SELECT pg_catalog.count(*) FROM outbox.due WHERE message_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT id FROM asked))),
       (SELECT pg_catalog.count(*) FROM outbox.dead WHERE message_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT id FROM asked))),
       (SELECT pg_catalog.count(*) FROM outbox.riverstep_run WHERE run_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT run_id::pg_catalog.text FROM asked WHERE replay_of IS NULL))
        AND status OPERATOR(pg_catalog.<>) 'active'::pg_catalog.text),
       (SELECT pg_catalog.count(*) FROM outbox.riverstep_run WHERE run_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT run_id::pg_catalog.text FROM asked WHERE replay_of IS NULL))
        AND status OPERATOR(pg_catalog.=) 'active'::pg_catalog.text)
FROM asked`), uuid7.Texts(ids)).Scan(&n.Messages, &n.Copies, &n.DedupeKeys, &n.Attempts, &n.Due, &n.Dead, &n.Runs, &n.ActiveRuns)
	to.add(n)
	return err
}
