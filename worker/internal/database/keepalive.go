package database

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/session"
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

// alive has each connection to the database probed as often from here as the server probes it from there: a statement that
// a vanished server will never answer fails within seconds, and not when the kernel's own patience ends.
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
