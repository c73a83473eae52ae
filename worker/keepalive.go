package worker

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

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
