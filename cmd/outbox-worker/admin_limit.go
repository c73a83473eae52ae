package main

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// adminConnsMax bounds the connections to the admin server. The bounds on requests and idle time bound how long each
// lasts.
const adminConnsMax = 64

// connLimit bounds the connections of a server. When there are too many, the connection that has waited longest for a
// request is closed, so that idle connections do not keep a probe out. If all have a request, the new one is closed.
type connLimit struct {
	max int

	mu    sync.Mutex
	conns map[net.Conn]time.Time // since when each waits for a request; zero while it has one
}

func newConnLimit(most int) *connLimit { return &connLimit{max: most, conns: map[net.Conn]time.Time{}} }

// track is the server's ConnState.
func (l *connLimit) track(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew:
		l.conns[conn] = time.Now()
		if len(l.conns) > l.max {
			l.end(l.longestWaiting(conn))
		}
	case http.StateIdle:
		l.conns[conn] = time.Now()
	case http.StateActive:
		l.conns[conn] = time.Time{}
	case http.StateClosed, http.StateHijacked:
		delete(l.conns, conn)
	}
}

// longestWaiting returns the connection to end. mu is held.
func (l *connLimit) longestWaiting(newest net.Conn) net.Conn {
	longest := newest
	for conn, since := range l.conns {
		if !since.IsZero() && since.Before(l.conns[longest]) {
			longest = conn
		}
	}
	return longest
}

// end closes a connection. mu is held.
func (l *connLimit) end(conn net.Conn) {
	_ = conn.Close()
	delete(l.conns, conn)
}
