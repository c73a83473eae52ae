package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Listener turns NOTIFYs on a channel into wakes. It holds one connection of its own. Losing it costs latency only: the
// worker polls.
type Listener struct {
	Pool    *Pool
	Channel string
	Wake    func()

	probe time.Duration // listenProbe when 0
}

const (
	// A LISTEN on a server that was demoted or replaced hears nothing, and says nothing. So a silent listener asks whether
	// its server is still one to listen on.
	listenProbe        = 30 * time.Second
	listenProbeTimeout = 10 * time.Second
	// A listener that fails soon after it began waits before it begins again.
	listenPause = 5 * time.Second
)

// Run listens until ctx ends, connecting again after each fault, and when the pool replaced its sessions.
func (l *Listener) Run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		if err := l.listen(ctx); err != nil && ctx.Err() == nil {
			l.Pool.logger.DebugContext(ctx, "not listening for wakes; polling goes on", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenPause - time.Since(began)):
		}
	}
}

func (l *Listener) listen(ctx context.Context) error {
	reset := l.Pool.wasReset()
	conn, err := l.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	own := conn.Hijack() // it never goes back: a LISTEN outlives its caller
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = own.Close(ctx)
	}()
	if _, err := own.Exec(ctx, "LISTEN "+l.Channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	l.Wake() // for what was said before we listened
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-reset:
			cancel(errReset)
		case <-ctx.Done():
		}
	}()
	for {
		if err := l.hear(ctx, own); err != nil {
			return fmt.Errorf("listen: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

var errReset = errors.New("the pool's sessions were replaced")

// hear returns after a wake, or a probe that found nothing wrong.
func (l *Listener) hear(ctx context.Context, own *pgx.Conn) error {
	quiet, cancel := context.WithTimeout(ctx, cmp.Or(l.probe, listenProbe))
	defer cancel()
	_, err := own.WaitForNotification(quiet)
	switch {
	case err == nil:
		l.Wake()
		return nil
	case ctx.Err() != nil || quiet.Err() == nil:
		return err
	}
	probe, cancel := context.WithTimeout(ctx, listenProbeTimeout)
	defer cancel()
	return pgconn.ValidateConnectTargetSessionAttrsReadWrite(probe, own.PgConn())
}
