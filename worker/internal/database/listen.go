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

// Listener turns NOTIFYs on a channel into wakes. It holds one connection of its own. The session on it is also the one that
// holds the lock of the worker's name.
type Listener struct {
	Pool    *Pool
	Channel string
	Wake    func()
	Lock    Lock

	probe time.Duration // listenProbe when 0
}

// Lock is the other use of the listener's session. The listener calls one method at a time.
type Lock interface {
	// Begin takes the lock on a new session. After an error, the session is closed.
	Begin(context.Context, *pgx.Conn) error
	// Next is when Beat must be called. After an error of Beat, the session is closed.
	Next() time.Time
	Beat(context.Context, *pgx.Conn) error
	// Leave is called before a session that seems alive is closed. If ended, no other session follows.
	Leave(ctx context.Context, conn *pgx.Conn, ended bool)
	// Lost is called after a session was closed, or could not be opened. It returns the time from the last try to the next.
	Lost(context.Context) time.Duration
}

const (
	// A LISTEN on a server that was demoted or replaced hears nothing, and gives no error. So a silent listener checks whether
	// its server is still the right one.
	listenProbe        = 30 * time.Second
	listenProbeTimeout = 10 * time.Second
	// listenTimeout bounds the wait for a connection.
	listenTimeout = 10 * time.Second
)

// Run listens until ctx ends, connecting again after each fault, and when the pool replaced its sessions.
func (l *Listener) Run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		if err := l.listen(ctx); err != nil && ctx.Err() == nil {
			l.Pool.logger.DebugContext(ctx, "not listening for wakes; polling goes on", "error", err)
		}
		if ctx.Err() != nil {
			return
		}
		again := l.Lock.Lost(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(again - time.Since(began)):
		}
	}
}

func (l *Listener) listen(ctx context.Context) error {
	reset := l.Pool.wasReset()
	acquiring, acquired := context.WithTimeout(ctx, listenTimeout)
	conn, err := l.Pool.Acquire(For(acquiring, CauseListen))
	acquired()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	own := conn.Hijack() // it never goes back to the pool: a LISTEN outlives its caller
	stopping := ctx
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(stopping), time.Second)
		defer cancel()
		if !own.IsClosed() {
			l.Lock.Leave(ctx, own, stopping.Err() != nil)
		}
		l.Pool.lost.closed(own)
		_ = own.Close(ctx)
	}()
	if _, err := own.Exec(ctx, "LISTEN "+l.Channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	l.Wake() // for notifications from before the LISTEN
	if err := l.Lock.Begin(ctx, own); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-reset:
			cancel(errReset)
		case <-ctx.Done():
		}
	}()
	probeAt := time.Now().Add(cmp.Or(l.probe, listenProbe))
	for {
		if err := l.hear(ctx, own, &probeAt); err != nil {
			return fmt.Errorf("listen: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

var errReset = errors.New("the pool's sessions were replaced")

// hear waits for a wake or for the time of a beat, and then probes when the last probe was long ago.
func (l *Listener) hear(ctx context.Context, own *pgx.Conn, probeAt *time.Time) error {
	until := *probeAt
	if beat := l.Lock.Next(); beat.Before(until) {
		until = beat
	}
	quiet, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	_, err := own.WaitForNotification(quiet)
	switch {
	case err == nil:
		l.Wake()
	case ctx.Err() != nil || quiet.Err() == nil:
		return err
	}
	now := time.Now()
	if !now.Before(*probeAt) {
		*probeAt = now.Add(cmp.Or(l.probe, listenProbe))
		probe, cancel := context.WithTimeout(ctx, listenProbeTimeout)
		defer cancel()
		if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(probe, own.PgConn()); err != nil {
			return err
		}
	}
	if now.Before(l.Lock.Next()) {
		return nil
	}
	return l.Lock.Beat(ctx, own)
}
