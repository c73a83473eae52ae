package throwaway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"syscall"
)

// local is a server of our own, run from an installation on this machine.
type local struct {
	found   installation
	options launchOptions
	scratch *scratch
	port    int
	running *process // nil before the first start

	listening []string // addresses besides the loopback one, see ListenAlso
}

func startLocal(ctx context.Context, found installation, o launchOptions, say logf) (_ *Server, err error) {
	say("starting a throwaway Postgres %s (%s)%s", found.version, found.dir, found.asWhom())
	l := &local{found: found, options: o}
	defer func() {
		if err != nil {
			err = fmt.Errorf("throwaway: starting Postgres %s (%s): %w", found.version, found.dir, errors.Join(err, l.stop()))
		}
	}()
	if l.scratch, err = newScratch(scratchBases(o.memory), found.runAs); err != nil {
		return nil, err
	}
	if err = l.initialise(ctx); err != nil {
		return nil, err
	}
	version, err := l.startOnSomePort(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{url: l.url(), version: version, owned: true, engine: l}, nil
}

func (l *local) initialise(ctx context.Context) error {
	cmd := l.found.command(ctx, "initdb", "-D", l.scratch.data(),
		"--auth=trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync")
	cmd.Dir = l.scratch.dir
	shareLock(cmd, l.scratch.marker)
	_, err := runToEnd(ctx, cmd)
	return err
}

// startOnSomePort chooses a port and tries another when the server ends at once: another process can take the port before the
// server binds to it. A server that ends for another reason ends as quickly on each of them.
func (l *local) startOnSomePort(ctx context.Context) (version string, err error) {
	const portsMax = 3
	for range portsMax {
		if l.port, err = freePort(); err != nil {
			return "", err
		}
		if version, err = l.start(ctx); !errors.Is(err, errEnded) {
			return version, err
		}
	}
	return "", err
}

// start runs the server and returns its version when it accepts connections. If it doesn't, the server is gone again.
func (l *local) start(ctx context.Context) (version string, err error) {
	log, err := os.OpenFile(l.scratch.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close() }() // the server has it by then

	args := append([]string{
		"-D", l.scratch.data(),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port=" + strconv.Itoa(l.port),
		"-c", "unix_socket_directories=",
	}, l.options.settings...)
	// Not ctx: it bounds the start only, the server outlives it.
	cmd := l.found.command(context.Background(), "postgres", args...)
	cmd.Dir = l.scratch.dir
	cmd.Env = append(cmd.Env, l.options.env...)
	cmd.Stdout, cmd.Stderr = log, log
	shareLock(cmd, l.scratch.marker)
	if l.running, err = launch(cmd); err != nil {
		return "", err
	}
	version, err = waitReady(ctx, l.url(), l.scratch.data(), func(context.Context) error { return l.running.ended() })
	if err != nil {
		return "", fmt.Errorf("%w; %s", errors.Join(err, l.running.end(syscall.SIGQUIT)), l.scratch.logTail())
	}
	return version, nil
}

func (l *local) url() string { return loopbackURL(l.port) }

func (l *local) crash() error {
	if err := l.running.ended(); err != nil {
		return fmt.Errorf("throwaway: nothing to crash: %w; %s", err, l.scratch.logTail())
	}
	return l.running.end(syscall.SIGQUIT)
}

func (l *local) restart(ctx context.Context) error {
	if err := l.running.end(syscall.SIGINT); err != nil {
		return fmt.Errorf("throwaway: restarting the server: %w", err)
	}
	if _, err := l.start(ctx); err != nil {
		return fmt.Errorf("throwaway: restarting the server: %w", err)
	}
	return nil
}

func (l *local) stop() error {
	if l.running != nil {
		if err := l.running.end(syscall.SIGINT); err != nil {
			return err // and the files stay: they are in use
		}
	}
	if l.scratch == nil {
		return nil
	}
	return l.scratch.remove()
}

func loopbackURL(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// freePort returns a free port below the range that systems use for outgoing connections. A client could take a port from that
// range while the server is down between Crash and Restart; even a client of the server, which keeps trying to connect, could
// connect to its own socket there.
func freePort() (int, error) {
	const portMin, portMax, attemptsMax = 10_000, 30_000, 100
	var err error
	for range attemptsMax {
		port := portMin + rand.IntN(portMax-portMin)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}
