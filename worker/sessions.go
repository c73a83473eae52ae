package worker

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// Bounds that the server keeps on the worker's sessions, for a client that cannot keep its own any more. They are not
// configurable: each is shorter than the shortest lease (LeaseMargin), or longer than what the client allows for the same
// thing.
const (
	// A statement that waits for a lock gives up; it is tried again within a poll interval.
	serverLockTimeout = 5 * time.Second
	// A statement ends, whatever it does. The longest that the client allows is a full scan.
	serverStatementTimeout = time.Minute
	// A transaction whose next statement does not come ends. None of ours waits for anything but the network.
	serverIdleTimeout = 10 * time.Second
)

// keepalives end a session whose peer has vanished, and with it the locks that it holds, within six seconds. The server's
// own are the kernel's, two hours by default. tcp_user_timeout is needed besides: while an answer is not acknowledged, no
// keepalives are sent.
var keepalives = []session.Setting{
	{Name: "tcp_keepalives_idle", Value: "3"},
	{Name: "tcp_keepalives_interval", Value: "1"},
	{Name: "tcp_keepalives_count", Value: "3"},
	{Name: "tcp_user_timeout", Value: "6000"},
}

// ownPool is the configuration of the worker's pool: the caller's, with sessions of our own and room for the listener.
func ownPool(caller *pgxpool.Config, pooler string) *pgxpool.Config {
	own := caller.Copy()
	own.MaxConns -= listeners
	own.MinConns, own.MinIdleConns = min(own.MinConns, own.MaxConns), min(own.MinIdleConns, own.MaxConns)
	settings := session.Timeouts(serverStatementTimeout, serverLockTimeout, serverIdleTimeout)
	settings = append(settings, session.Setting{Name: "transaction_timeout", Value: "60000", Since: 17})
	session.Pin(own, session.Pooler(pooler), append(settings, keepalives...)...)
	return own
}
