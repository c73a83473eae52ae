package throwaway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

var errNotLocal = errors.New("throwaway: that needs a Postgres that is installed on this machine, not one in Docker")

// ListenAlso restarts the server so that it also listens on another address of this machine, at the same port, and trusts all
// from the network of that address: for network namespaces, whose far end can vanish without a FIN or RST. The address must
// exist. It holds for later restarts, too. It is an error if the server is not ours.
func (s *Server) ListenAlso(ctx context.Context, address netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.local()
	if err != nil {
		return err
	}
	if err := l.trust(address); err != nil {
		return fmt.Errorf("throwaway: %w", err)
	}
	// A setting that is given twice counts as given last.
	l.listening = append(l.listening, address.Addr().String())
	l.options.settings = append(l.options.settings, "-c", "listen_addresses="+listenList(l.listening))
	if err := l.restart(ctx); err != nil {
		return err
	}
	// Postgres starts without an address that it can't bind to, if there is another.
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address.Addr().String(), strconv.Itoa(l.port)))
	if err != nil {
		return fmt.Errorf("throwaway: the server doesn't listen on %s: %w; %s", address.Addr(), err, l.scratch.logTail())
	}
	return conn.Close()
}

func listenList(further []string) string {
	list := "127.0.0.1"
	for _, address := range further {
		list += "," + address
	}
	return list
}

func (l *local) trust(network netip.Prefix) (err error) {
	hba, err := os.OpenFile(filepath.Join(l.scratch.data(), "pg_hba.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hba.Close()) }()
	_, err = fmt.Fprintf(hba, "host all all %s trust\n", network.Masked())
	return err
}

// local returns the engine of a server that is installed on this machine; mu is held.
func (s *Server) local() (*local, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	l, ok := s.engine.(*local)
	if !ok {
		return nil, errNotLocal
	}
	return l, nil
}
