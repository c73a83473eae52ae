package throwaway

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Server is a running Postgres server. Its methods may be called from several goroutines; those that change its state
// wait for each other.
type Server struct {
	url     string
	version string
	owned   bool

	mu     sync.Mutex
	engine engine // nil when not owned, and after Stop
}

// engine runs a server of our own.
type engine interface {
	// crash ends the server without giving it time to write anything, and returns when it's gone.
	crash() error
	// restart starts the server with the same data and port, and returns when it accepts connections.
	restart(ctx context.Context) error
	// stop ends the server and removes everything of it. It may be called in whatever state the server is in.
	stop() error
}

var (
	errNotOwned = errors.New("throwaway: the server named in " + URLVariable + " is not ours to crash or restart")
	errStopped  = errors.New("throwaway: the server was stopped")
)

// URL returns the address of the server, for pgx and lib/pq alike. For a server of our own it is
// postgres://postgres@127.0.0.1:PORT/postgres?sslmode=disable, otherwise what the environment says.
func (s *Server) URL() string { return s.url }

// Owned is true for a server of our own, and false for one named in the environment.
func (s *Server) Owned() bool { return s.owned }

// Version returns the server's version as it says it itself, like "15.18 (Debian 15.18-0+deb12u1)".
func (s *Server) Version() string { return s.version }

// Crash ends the server without giving it time to write anything (what Postgres calls an immediate shutdown), and
// returns when it's gone. What was committed survives that; with Options.Settings fsync on it would survive a crash of
// the machine, too. It's an error if the server isn't ours or isn't running.
func (s *Server) Crash() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	return s.engine.crash()
}

// Restart starts the server again with the same data and the same URL, and returns when it accepts connections, which
// includes recovery after a crash. A server that still runs is shut down first. It's an error if the server isn't ours.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	return s.engine.restart(ctx)
}

// Stop ends a server of our own, open connections included, and removes everything of it. It leaves a server named in
// the environment alone. Further calls return nil unless the first one failed: then they try again.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		return nil
	}
	if err := s.engine.stop(); err != nil {
		return fmt.Errorf("throwaway: stopping the server: %w", err)
	}
	s.engine = nil
	return nil
}

func (s *Server) usable() error {
	switch {
	case !s.owned:
		return errNotOwned
	case s.engine == nil:
		return errStopped
	}
	return nil
}
