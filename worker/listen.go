package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
)

// listener turns NOTIFYs on the wake channel into wakes. It holds one connection of its own. Losing it, or never
// getting it (a pooler in transaction mode), costs latency only: the scan loop polls.
type listener struct {
	pool    *pgxpool.Pool
	channel string
	wake    func()
	logger  *slog.Logger
}

// run listens until ctx ends, connecting again after each fault.
func (l *listener) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.listen(ctx); err != nil && ctx.Err() == nil {
			l.logger.DebugContext(ctx, "not listening for wakes; polling goes on", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(outage.PauseMax):
		}
	}
}

func (l *listener) listen(ctx context.Context) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	own := conn.Hijack() // it never goes back: a LISTEN outlives its caller
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = own.Close(ctx)
	}()
	if _, err := own.Exec(ctx, "LISTEN "+l.channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	l.wake() // for what was said before we listened
	for {
		if _, err := own.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		l.wake()
	}
}
