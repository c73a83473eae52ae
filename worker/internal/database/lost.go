package database

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lostSessions are sessions of this worker's whose connection broke. The server may not know yet: a backend that waits for
// the rest of a batch holds the batch's locks until its keepalives give up, and this worker would wait for them. Each session is
// named by its process and its start, so that no other session is ever ended by mistake.
//
// Behind a pooler the server's session is not ours alone, and nothing is kept here.
type lostSessions struct {
	mu   sync.Mutex
	open map[*pgx.Conn]backend
	lost []backend
}

type backend struct {
	pid   uint32
	began int64 // microseconds since 1970, by the server's clock
}

// Qualified, because it also runs on a pooler's session, which does not have our search_path.
const beganSQL = `(pg_catalog.date_part('epoch', backend_start) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8`

// lostMax bounds the list, in case the server is away for long.
const lostMax = 1000

// watch makes a pool's configuration report its connections.
func (l *lostSessions) watch(config *pgxpool.Config) {
	connected, closing := config.AfterConnect, config.BeforeClose
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := connected(ctx, conn); err != nil {
			return err
		}
		var b backend
		err := conn.QueryRow(ctx, `SELECT pid, coalesce(`+beganSQL+`, 0) FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()`).Scan(&b.pid, &b.began)
		// Otherwise the session is a pooler's, or belongs to a role whose sessions ours may not see.
		if err == nil && b.pid == conn.PgConn().PID() && b.began != 0 {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.open[conn] = b
		}
		return err
	}
	config.BeforeClose = func(conn *pgx.Conn) {
		l.closed(conn)
		if closing != nil {
			closing(conn)
		}
	}
}

// closed notes a connection that broke. One that is closed in order ends its session on the server itself.
func (l *lostSessions) closed(conn *pgx.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ours := l.open[conn]; ours && conn.IsClosed() && len(l.lost) < lostMax {
		l.lost = append(l.lost, b)
	}
	delete(l.open, conn)
}

// EndLost ends those lost sessions that still exist on the server.
func (p *Pool) EndLost(ctx context.Context) {
	l := &p.lost
	l.mu.Lock()
	lost := l.lost
	l.lost = nil
	l.mu.Unlock()
	if len(lost) == 0 {
		return
	}
	pids, began := make([]int32, len(lost)), make([]int64, len(lost))
	for i, b := range lost {
		pids[i], began[i] = int32(b.pid), b.began
	}
	var ended int
	err := p.QueryRow(ctx, `SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
JOIN unnest($1::integer[], $2::bigint[]) AS l (pid, began) ON a.pid = l.pid AND `+beganSQL+` = l.began`,
		pids, began).Scan(&ended)
	if err != nil {
		p.logger.DebugContext(ctx, "sessions that lost their connection could not be ended", "error", err)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lost = append(l.lost, lost[:min(len(lost), lostMax-len(l.lost))]...)
		return
	}
	if ended > 0 {
		p.logger.WarnContext(ctx, "ended sessions of this worker that had lost their connection and were still open on the server", "sessions", ended)
	}
}
