// Package database has the worker's connections to Postgres: the settings of their sessions, how soon a silent one is
// given up, and what happens to them when a server fails, fails over or is read-only for a while.
//
// A [Pool] opens sessions on a server that can be written to, and on no other. When an error shows that a session can no
// longer be used ([Pool.Failed]), all sessions are replaced: those that were opened together fail together.
package database

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// Bounds that the server keeps on the worker's sessions, for a client that can no longer keep its own. They are not
// configurable: each is shorter than the shortest lease (worker.LeaseMargin), or longer than the client's bound on the
// same thing.
const (
	// A statement that waits for a lock gives up; it is tried again within a poll interval.
	serverLockTimeout = 5 * time.Second
	// A statement ends, whatever it does. The longest that the client allows is a full scan.
	serverStatementTimeout = time.Minute
	// A transaction whose next statement does not come ends. Our transactions wait for nothing but the network.
	serverIdleTimeout = 10 * time.Second
)

// Listeners are the connections that leave the pool for good: a LISTEN outlives its caller.
const Listeners = 1

// connectTimeout bounds the connection to one host, unless the caller's configuration does: so a host that vanished
// does not delay the next one in the list for long.
const connectTimeout = 3 * time.Second

// Pool is the worker's connections. River works on the same ones.
type Pool struct {
	*pgxpool.Pool
	logger *slog.Logger
	lost   lostSessions
	wires  wires

	mu    sync.Mutex
	reset chan struct{} // closed and replaced when all sessions are replaced
}

// Open returns a pool with the configuration of the caller's, with sessions of our own and without the listener's connection.
// It connects when it is used. Its use is measured unless m is nil.
func Open(caller *pgxpool.Config, pooler string, logger *slog.Logger, m *instruments.Maker) (*Pool, error) {
	p := &Pool{logger: logger, reset: make(chan struct{}), wires: wires{open: map[*wire]struct{}{}}}
	p.lost.open = map[*pgx.Conn]backend{}
	own := caller.Copy()
	own.MaxConns -= Listeners
	own.MinConns, own.MinIdleConns = min(own.MinConns, own.MaxConns), min(own.MinIdleConns, own.MaxConns)
	if own.ConnConfig.ConnectTimeout == 0 {
		own.ConnConfig.ConnectTimeout = connectTimeout
	}
	own.ConnConfig.DialFunc = p.wires.dial(alive(own.ConnConfig.DialFunc))
	if own.ConnConfig.ValidateConnect == nil { // or target_session_attrs says which servers will do
		own.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	settings := session.Timeouts(serverStatementTimeout, serverLockTimeout, serverIdleTimeout)
	settings = append(settings, session.Setting{Name: "transaction_timeout", Value: "60000", Since: 17})
	session.Pin(own, session.Pooler(pooler), append(settings, keepalives...)...)
	p.lost.watch(own)
	p.measure(own, m)
	var err error
	p.Pool, err = pgxpool.NewWithConfig(context.Background(), own)
	return p, err
}

// Failed takes an error of a statement. When its session can no longer be used, all sessions are closed, those in use
// when they are given back. again says that a new session may work at once. After a timeout it is false: that was
// wait enough.
func (p *Pool) Failed(err error) (again bool) {
	if !ofSession(err) {
		return false
	}
	p.mu.Lock()
	close(p.reset)
	p.reset = make(chan struct{})
	p.mu.Unlock()
	p.Reset()
	return !isTimeout(err)
}

// wasReset returns a channel that is closed at the next reset.
func (p *Pool) wasReset() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reset
}

// closeTimeout bounds the wait for connections in use, and then for those that were cut.
const closeTimeout = 250 * time.Millisecond

// Close closes the pool within twice closeTimeout, whatever the server does: connections in use are cut.
func (p *Pool) Close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.Pool.Close()
	}()
	for range 2 {
		select {
		case <-closed:
			return
		case <-time.After(closeTimeout):
			p.Cut()
		}
	}
	p.logger.Warn("connections to the database are still in use; not waiting for them", "in_use", p.Stat().AcquiredConns())
}

// Cut closes every connection at once, and no new one can be made: whatever waits for an answer fails.
func (p *Pool) Cut() { p.wires.cut() }

const readOnlyAdvice = "the server is read-only: it is a standby, or default_transaction_read_only is set; " +
	"make it writable, or name the primary in the URL too (host=a,b)"

// Advice says what an operator can do about an error, or nothing.
func Advice(err error) string {
	var server *pgconn.PgError
	switch {
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return readOnlyAdvice
	case !errors.As(err, &server):
		return ""
	}
	switch server.Code {
	case readOnlyTransaction:
		return readOnlyAdvice
	case tooManyConnections:
		return "the database has no connection left: raise max_connections, or the CONNECTION LIMIT of the role or database, or let those that use it open fewer (MaxConns of their pools)"
	case undefinedTable, undefinedFunction, invalidSchemaName:
		return "the schema lacks tables of the outbox: run 'outbox-worker migrate up', or name the schema that was migrated"
	}
	return ""
}
