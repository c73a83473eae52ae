package operator

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// Besides what belongs to messages, a purge erases the riverstep runs that have the run id and no message, and the state that the
// workers keep of the tenant's lanes. What an operator set, a pause or a limit, stays: it may be what keeps requests from the
// tenant.
const (
	lanesOfTenant = `FROM outbox.endpoint e WHERE pg_catalog.split_part(e.endpoint, ' ', 2) OPERATOR(pg_catalog.=) $1::pg_catalog.text`
	setByOperator = `(e.paused OR e.max_in_flight IS NOT NULL OR e.rate_per_second IS NOT NULL)`
)

func (p *Purge) countRunsAndLanes(ctx context.Context, counts *PurgeCounts) error {
	if p.wantsRuns() {
		var ended, active int64
		err := p.store.db.QueryRow(ctx, p.store.in(`SELECT pg_catalog.count(*) FILTER (WHERE r.status OPERATOR(pg_catalog.<>) 'active'::pg_catalog.text),
    pg_catalog.count(*) FILTER (WHERE r.status OPERATOR(pg_catalog.=) 'active'::pg_catalog.text) `+unownedRuns), []string{p.runID}).Scan(&ended, &active)
		if err != nil {
			return err
		}
		counts.Runs += ended
		counts.ActiveRuns += active
	}
	if p.wantsLanes() {
		return p.store.db.QueryRow(ctx, p.store.in(`SELECT pg_catalog.count(*) FILTER (WHERE NOT `+setByOperator+`), pg_catalog.count(*) FILTER (WHERE `+setByOperator+`) `+lanesOfTenant),
			p.store.tenant).Scan(&counts.Lanes, &counts.PausedLanes)
	}
	return nil
}

func (p *Purge) eraseRunsAndLanes(ctx context.Context, counts *PurgeCounts) error {
	if p.wantsRuns() {
		err := pgx.BeginFunc(ctx, p.store.db, func(tx pgx.Tx) error { return p.eraseRuns(ctx, tx, []string{p.runID}, counts) })
		if err != nil {
			return err
		}
	}
	if !p.wantsLanes() {
		return nil
	}
	if err := p.eraseFromEvents(ctx); err != nil {
		return err
	}
	tag, err := p.store.db.Exec(ctx, p.store.in(`DELETE FROM outbox.endpoint WHERE endpoint OPERATOR(pg_catalog.=) ANY (ARRAY(
    SELECT e.endpoint `+lanesOfTenant+` AND NOT `+setByOperator+`
      AND NOT EXISTS (SELECT FROM outbox.due d WHERE d.endpoint OPERATOR(pg_catalog.=) e.endpoint)
    ORDER BY e.endpoint FOR UPDATE SKIP LOCKED))`), p.store.tenant)
	if err != nil {
		return err
	}
	counts.Lanes = tag.RowsAffected()
	return p.store.db.QueryRow(ctx, p.store.in(`SELECT pg_catalog.count(*) `+lanesOfTenant+` AND `+setByOperator), p.store.tenant).Scan(&counts.PausedLanes)
}

// eraseFromEvents removes the tenant's name from events that are not written yet. Written ones about the tenant are the tenant's own
// messages, and are erased with its others.
func (p *Purge) eraseFromEvents(ctx context.Context) error {
	s := p.store
	version, err := s.version(ctx)
	if err != nil || version < sinceKinds {
		return err
	}
	var may bool // this role's privileges may be from before there were events
	err = s.db.QueryRow(ctx, s.in(`SELECT pg_catalog.has_table_privilege('outbox.event'::pg_catalog.text, 'SELECT'::pg_catalog.text)
    AND pg_catalog.has_table_privilege('outbox.event'::pg_catalog.text, 'UPDATE'::pg_catalog.text)
    AND pg_catalog.has_table_privilege('outbox.event_told'::pg_catalog.text, 'SELECT'::pg_catalog.text)
    AND pg_catalog.has_table_privilege('outbox.event_told'::pg_catalog.text, 'UPDATE'::pg_catalog.text)`)).Scan(&may)
	if err != nil || !may {
		return err
	}
	for _, sql := range []string{
		`UPDATE outbox.event SET lane = pg_catalog.split_part(lane, ' ', 1)
WHERE pg_catalog.split_part(lane, ' ', 2) OPERATOR(pg_catalog.=) $1::pg_catalog.text`,
		`UPDATE outbox.event_told SET detail = detail OPERATOR(pg_catalog.-) 'tenant'::pg_catalog.text
WHERE (detail OPERATOR(pg_catalog.->>) 'tenant'::pg_catalog.text) OPERATOR(pg_catalog.=) $1::pg_catalog.text`,
	} {
		if _, err := s.db.Exec(ctx, s.in(sql), s.tenant); err != nil {
			return err
		}
	}
	return nil
}

// wantsRuns reports whether runs without a message are to be erased too. Only a purge by run id can find them.
func (p *Purge) wantsRuns() bool { return p.runID != "" && p.store.tenant == "" }

func (p *Purge) wantsLanes() bool { return p.runID == "" && lane.IsTenant(p.store.tenant) }
