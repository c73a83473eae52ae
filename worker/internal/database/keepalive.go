package database

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// keepalives end a session whose peer has vanished, and release its locks, within six seconds. By default the
// server uses the kernel's keepalives: two hours. tcp_user_timeout is needed too: while an answer is not acknowledged, no
// keepalives are sent.
var keepalives = []session.Setting{
	{Name: "tcp_keepalives_idle", Value: "3"},
	{Name: "tcp_keepalives_interval", Value: "1"},
	{Name: "tcp_keepalives_count", Value: "3"},
	{Name: "tcp_user_timeout", Value: "6000"},
}

// alive makes this side probe each connection to the database as often as the server does: a statement that
// a vanished server will never answer then fails within seconds, and not only after the kernel's own timeout.
func alive(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: time.Second, Count: 3})
			setUserTimeout(tcp, 6*time.Second)
		}
		return conn, err
	}
}
