package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

// doorbell rings for a drain while something is due and none runs here. It looks at every poll interval, and at once on
// a wake; while a drain runs, that drain looks for itself.
type doorbell struct {
	pool    *pgxpool.Pool
	sql     string
	client  *river.Client[pgx.Tx]
	drainer *drainer
	outage  *door
	poll    time.Duration
	wake    chan struct{} // holds a token when a wake arrived
	rungAt  time.Time
}

// ringPause is the least time between two rings that follow wakes.
const ringPause = 50 * time.Millisecond

// A look is cheap while little is due: it descends the index once per endpoint and stops at the first that has a
// message to claim.
const lookSQL = `WITH RECURSIVE walk (endpoint) AS (
    SELECT (SELECT d.endpoint FROM outbox.due d ORDER BY d.endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM outbox.due d WHERE d.endpoint > w.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM walk w WHERE w.endpoint IS NOT NULL
)
SELECT 1 FROM walk w CROSS JOIN LATERAL (
    SELECT FROM outbox.due d
    WHERE d.endpoint = w.endpoint AND d.due_at <= now() AND (d.locked_until IS NULL OR d.locked_until <= now())
    ORDER BY d.due_at LIMIT 1
) d
WHERE w.endpoint IS NOT NULL
  AND NOT coalesce((SELECT e.paused OR e.open_until > now() FROM outbox.endpoint e WHERE e.endpoint = w.endpoint), false)
LIMIT 1`

// run rings until ctx ends.
func (b *doorbell) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		woken := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.drainer.rest:
		case <-b.wake:
			woken = true
		}
		timer.Reset(b.poll)
		if b.drainer.running.Load() {
			if woken {
				token(b.drainer.wake)
			}
			continue
		}
		if left := ringPause - time.Since(b.rungAt); woken && left > 0 {
			timer.Reset(min(left, b.poll)) // a drain was just rung for, here or where its job was taken: look again then
			continue
		}
		if err := b.ringIfDue(ctx); err != nil && b.outage.wait(ctx, err) != nil {
			return
		}
	}
}

func (b *doorbell) ringIfDue(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("look took longer than %v", claimTimeout))
	defer cancel()
	tag, err := b.pool.Exec(ctx, b.sql)
	if err != nil {
		return fmt.Errorf("look for due messages: %w", err)
	}
	b.outage.over()
	if tag.RowsAffected() == 0 {
		return nil
	}
	b.rungAt = time.Now()
	if _, err := b.client.Insert(ctx, drainArgs{}, drainOptions()); err != nil {
		return fmt.Errorf("ring for a drain: %w", err)
	}
	return nil
}

// drainOptions: a drain is never tried again, for the next ring is a new one.
func drainOptions() *river.InsertOpts { return &river.InsertOpts{Queue: drainQueue, MaxAttempts: 1} }
