package riverstep

import (
	"context"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Bounds of pruning.
const (
	pruneBatch   = 1000   // rows of one transaction
	pruneBadMax  = 100    // rows that cannot be removed; with more, the sweep stops pruning until the next one
	pruneBadKept = 10_000 // such rows that the next sweeps skip; with more, the list starts again
)

// unprunable are rows that the last sweeps could not remove. The next sweep skips them, so that they never keep it from the
// others. They are tried again once all others are gone.
type unprunable struct {
	mu  sync.Mutex
	ids []string
}

func (u *unprunable) known() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.ids...)
}

func (u *unprunable) keep(ids []string) {
	if len(ids) > pruneBadKept {
		ids = nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids = ids
}

// prune removes runs that ended longer ago than Config.Retention, in bounded batches. A row that another session has locked is
// skipped. A batch that a foreign key or a trigger of the service refuses is halved until the refused row is alone; that row is
// named and left.
func (s *Steps) prune(ctx context.Context) error {
	var f faults
	bad := s.unprunable.known()
	most := len(bad) + pruneBadMax
	for batch := pruneBatch; ; {
		ids, err := s.pruneSome(ctx, batch, bad)
		switch {
		case err == nil && len(ids) < batch:
			s.unprunable.keep(nil)
			return f.err(nil)
		case err == nil:
			batch = min(2*batch, pruneBatch)
		case !aboutRows(err) || len(ids) == 0:
			return f.err(err)
		case len(ids) > 1:
			batch = len(ids) / 2
		default:
			f.add("remove the ended run of instance %s: %w", ids[0], err)
			if bad = append(bad, ids[0].String()); len(bad) == most {
				s.unprunable.keep(bad)
				return f.err(nil)
			}
		}
	}
}

// pruneSome removes the oldest of the runs, other than the bad ones. It returns those that it removed, or failed to.
func (s *Steps) pruneSome(ctx context.Context, limit int, bad []string) (ids []outbox.ID, err error) {
	err = s.once(ctx, lockBrief, func(ctx context.Context, tx pgx.Tx) error {
		found, err := tx.Query(ctx, s.rows.in(`SELECT instance FROM outbox.riverstep_run
WHERE ended_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1))
  AND instance OPERATOR(pg_catalog.<>) ALL ($2::pg_catalog.text[]::pg_catalog.uuid[])
ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED`), s.config.Retention.Seconds(), bad, limit)
		if err != nil {
			return err
		}
		if ids, err = pgx.CollectRows(found, pgx.RowTo[outbox.ID]); err != nil || len(ids) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, s.rows.in(`DELETE FROM outbox.riverstep_run
WHERE instance OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])`), uuid7.Texts(ids))
		return err
	})
	return ids, err
}

// aboutRows reports an error that some of the rows cause, and others need not.
func aboutRows(err error) bool {
	code := sqlstate.Of(err)
	return collided(err) || strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "P0")
}
