package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/worker/internal/roster"
)

// listener turns NOTIFYs on the wake channel into wakes. It holds one connection of its own, which is also the session that
// holds the lock of this worker's name (package roster).
type listener struct {
	pool    *pgxpool.Pool
	channel string
	wake    func()
	roster  *roster.Roster
	logger  *slog.Logger
}

// run listens until ctx ends, connecting again after each fault.
func (l *listener) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.listen(ctx); err != nil && ctx.Err() == nil {
			l.logger.DebugContext(ctx, "not listening for wakes; polling goes on", "error", err)
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(l.roster.Lost(ctx)):
		}
	}
}

func (l *listener) listen(ctx context.Context) error {
	acquire, cancel := context.WithTimeout(ctx, listenTimeout)
	conn, err := l.pool.Acquire(acquire)
	cancel()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	own := conn.Hijack() // it never goes back: a LISTEN outlives its caller
	stopping := ctx
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if stopping.Err() != nil {
			l.roster.End(ctx, own)
		}
		_ = own.Close(ctx)
	}()
	if _, err := own.Exec(ctx, "LISTEN "+l.channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	l.wake() // for what was said before we listened
	if err := l.roster.Begin(ctx, own); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		if err := l.hear(ctx, own); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
}

// hear returns after a wake, or when the roster had something to do.
func (l *listener) hear(ctx context.Context, own *pgx.Conn) error {
	quiet, cancel := context.WithDeadline(ctx, l.roster.Next())
	defer cancel()
	_, err := own.WaitForNotification(quiet)
	switch {
	case err == nil:
		l.wake()
	case ctx.Err() != nil || quiet.Err() == nil:
		return err
	}
	if time.Now().Before(l.roster.Next()) {
		return nil
	}
	return l.roster.Beat(ctx, own)
}

// listenTimeout bounds the wait for a connection.
const listenTimeout = 5 * time.Second
