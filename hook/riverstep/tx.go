package riverstep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// How long a transaction waits for a row that another session has locked.
const (
	lockWait  = time.Second           // in the transactions that are tried again
	lockBrief = 50 * time.Millisecond // in the sweep, which runs again soon, and where a worker that holds the row is settling it
)

// The pauses before a transaction is tried again. Each is up to half longer, at random.
const (
	againFirst = 5 * time.Millisecond
	againMost  = time.Second
)

// beginner is a pool or a connection.
type beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// beginnable reports whether riverstep can begin its own transactions on db: those of a pool, or savepoints of a test.
func beginnable(db outbox.DB) error {
	if pool, ok := db.(*pgxpool.Pool); db == nil || ok && pool == nil {
		return errors.New("db is nil; did pgxpool.New fail?")
	}
	switch db.(type) {
	case beginner, pgx.Tx:
		return nil
	}
	return errors.New("db has no BeginTx, as *pgxpool.Pool has; the isolation of riverstep's transactions could not be set")
}

// beginning begins a transaction of riverstep itself, in one round trip. It sets what must not depend on the database, the role
// or the URL: isolation and access mode; how long the server waits for a lock, for the end of a statement, and for a silent
// client; and the format of dates, which the statements of River need in the text protocols (the order of day and month stays
// that of the session). All of it ends with the transaction. The search path stays that of the session, for the writes of the
// runner and the hook; the statements of riverstep do not depend on it.
func beginning(wait, most time.Duration) pgx.TxOptions {
	ms := func(d time.Duration) int64 { return max(1, d.Milliseconds()) }
	return pgx.TxOptions{BeginQuery: fmt.Sprintf(`BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = %d; SET LOCAL statement_timeout = %d; SET LOCAL idle_in_transaction_session_timeout = %d;
SET LOCAL DateStyle = 'ISO'`, ms(min(wait, most/3)), ms(most), ms(most))}
}

// transact runs f in a transaction of riverstep itself. When it collides with another one (see collided), it is rolled back and
// run again, until SettleTimeout has passed or ctx ends. log names whose transaction it is.
func (s *Steps) transact(ctx context.Context, log *slog.Logger, f func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.SettleTimeout)
	defer cancel()
	var last error // the collision before
	for n := 0; ; n++ {
		err := s.once(ctx, lockWait, f)
		switch {
		case last != nil && ctx.Err() != nil && err != nil:
			return last // says more than a deadline would
		case !collided(err) || s.lent():
			return err
		case n == 0:
			log.WarnContext(ctx, "another session is in the way of a transaction; trying again", "sqlstate", sqlstate.Of(err), "error", err)
		}
		last = err
		s.metrics.madeAgain(err)
		pause(ctx, min(againFirst<<min(n, 10), againMost))
	}
}

// once runs f in a transaction in which each wait for a lock is bounded.
func (s *Steps) once(ctx context.Context, wait time.Duration, f func(context.Context, pgx.Tx) error) error {
	in := func(tx pgx.Tx) error { return f(ctx, tx) }
	if pool, ok := s.db.(beginner); ok {
		return pgx.BeginTxFunc(ctx, pool, beginning(wait, s.config.SettleTimeout), in)
	}
	return pgx.BeginFunc(ctx, s.db, in)
}

// lent reports whether db is a transaction of a test, which cannot be begun again.
func (s *Steps) lent() bool {
	_, ok := s.db.(pgx.Tx)
	return ok
}

// pause waits for d, or half longer, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// collided reports that a transaction collided with another one and left no trace: it could not be serialised, was the victim
// of a deadlock, or did not get a lock in time. The same transaction can succeed a moment later.
func collided(err error) bool {
	switch sqlstate.Of(err) {
	case "40001", "40P01", lockNotAvailable:
		return true
	}
	return false
}

const lockNotAvailable = "55P03"
