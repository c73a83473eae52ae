package database

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lostSessions are sessions of this worker's whose connection broke. The server may not know yet: a backend that waits for
// the rest of a batch holds the batch's locks until its keepalives give up, and this worker would wait for itself. Each is
// named by its process and when that began, so that no other session is ever ended in its place.
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

// Qualified, for it is also asked on a session of a pooler's, which has no search_path of ours.
const beganSQL = `(pg_catalog.date_part('epoch', backend_start) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8`

// lostMax bounds what is kept, should the server be away for long.
const lostMax = 1000

// watch has a pool's configuration report its connections.
func (l *lostSessions) watch(config *pgxpool.Config) {
	connected, closing := config.AfterConnect, config.BeforeClose
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := connected(ctx, conn); err != nil {
			return err
		}
		var b backend
		err := conn.QueryRow(ctx, `SELECT pid, coalesce(`+beganSQL+`, 0) FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()`).Scan(&b.pid, &b.began)
		// Otherwise it is a pooler's, or belongs to a role whose sessions ours may not see.
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

// closed notes a connection that broke; one that is closed in order says goodbye to its server.
func (l *lostSessions) closed(conn *pgx.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ours := l.open[conn]; ours && conn.IsClosed() && len(l.lost) < lostMax {
		l.lost = append(l.lost, b)
	}
	delete(l.open, conn)
}

// EndLost ends the sessions that were lost and are still there.
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
