package database

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// wires are the sockets of all connections, so that they can be closed while somebody waits for an answer. A context
// cannot do that for River, which protects some of its statements from the end of their context.
type wires struct {
	mu   sync.Mutex
	open map[*wire]struct{}
	done bool // no new ones are allowed
}

type wire struct {
	net.Conn
	of *wires
}

var errCut = errors.New("the worker has stopped")

func (w *wires) dial(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		one := &wire{Conn: conn, of: w}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.done {
			_ = conn.Close()
			return nil, errCut
		}
		w.open[one] = struct{}{}
		return one, nil
	}
}

// Close closes the socket.
func (w *wire) Close() error {
	w.of.mu.Lock()
	delete(w.of.open, w)
	w.of.mu.Unlock()
	return w.Conn.Close()
}

func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	for one := range w.open {
		_ = one.Conn.Close()
	}
	clear(w.open)
}
