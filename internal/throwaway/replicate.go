package throwaway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	standbySignal = "standby.signal" // in the data directory: the server starts read-only
	autoConf      = "postgresql.auto.conf"
	promoteMax    = 60 * time.Second
	replicateMax  = 60 * time.Second
)

// StartStandby starts a server that follows s by streaming replication, read-only, with the same settings and a port of
// its own. It is a Server like any other: the caller must Stop it, can Crash and Restart it, and Promote it. log is as
// Options.Log. It's an error if s isn't ours.
func (s *Server) StartStandby(ctx context.Context, log func(format string, args ...any)) (_ *Server, err error) {
	say := logf(log)
	if say == nil {
		say = func(string, ...any) {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	primary, err := s.local()
	if err != nil {
		return nil, err
	}
	say("starting a standby of %s", s.url)
	standby := *primary // the same installation and settings
	standby.scratch, standby.port, standby.running = nil, 0, nil
	standby.options.settings = slices.Clone(primary.options.settings)
	l := &standby
	defer func() {
		if err != nil {
			err = fmt.Errorf("throwaway: starting a standby: %w", errors.Join(err, l.stop()))
		}
	}()
	if l.scratch, err = newScratch(scratchBases(l.options.memory), l.found.runAs); err != nil {
		return nil, err
	}
	if err = l.clone(ctx, s.url); err != nil {
		return nil, err
	}
	version, err := l.startOnSomePort(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{url: l.url(), version: version, owned: true, engine: l}, nil
}

// Shutdown ends the server cleanly and returns when it's gone. Its data stays, for Restart. It's an error if the server
// isn't ours.
func (s *Server) Shutdown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.local()
	if err != nil {
		return err
	}
	return l.running.end(syscall.SIGINT)
}

// Promote makes a standby, or a demoted server, writable, and returns when it is. Sessions stay.
func (s *Server) Promote(ctx context.Context) error {
	var promoted bool
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT pg_catalog.pg_promote(true, $1)", int(promoteMax.Seconds())).Scan(&promoted)
	})
	if err == nil && !promoted {
		err = fmt.Errorf("still read-only after %v", promoteMax)
	}
	if err != nil {
		return fmt.Errorf("throwaway: promoting: %w; %s", err, s.LogTail())
	}
	return nil
}

// Demote restarts the server read-only, as a standby that follows nobody, like a primary that survived a failover. A server that doesn't run is started. Promote makes it writable again.
func (s *Server) Demote(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.local()
	if err != nil {
		return err
	}
	if err := l.running.end(syscall.SIGINT); err != nil {
		return fmt.Errorf("throwaway: demoting: %w", err)
	}
	if err := l.followNobody(); err != nil {
		return fmt.Errorf("throwaway: demoting: %w", err)
	}
	return l.restart(ctx)
}

// Follow makes s a standby of another server. It ends s if it runs, and replaces its data by a copy of the other's.
// URL and settings stay.
func (s *Server) Follow(ctx context.Context, primary *Server) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.local()
	if err != nil {
		return err
	}
	if err := l.running.end(syscall.SIGINT); err != nil {
		return fmt.Errorf("throwaway: following %s: %w", primary.URL(), err)
	}
	if err := l.scratch.emptyData(l.found.runAs); err != nil {
		return fmt.Errorf("throwaway: following %s: %w", primary.URL(), err)
	}
	if err := l.clone(ctx, primary.URL()); err != nil {
		return fmt.Errorf("throwaway: following %s: %w", primary.URL(), err)
	}
	return l.restart(ctx)
}

// SetSynchronous says whether commits wait until a standby has them on disk. With one that doesn't follow, they wait for
// ever. It returns when it's in force; if on, once a standby is synchronous.
func (s *Server) SetSynchronous(ctx context.Context, on bool) error {
	names, wanted := "", "NOT EXISTS"
	if on {
		names, wanted = "*", "EXISTS"
	}
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range []string{
			"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'",
			"SELECT pg_catalog.pg_reload_conf()",
		} {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return waitTrue(ctx, conn, "SELECT "+wanted+" (SELECT FROM pg_catalog.pg_stat_replication WHERE sync_state = 'sync')")
	})
	if err != nil {
		return fmt.Errorf("throwaway: synchronous replication %v: %w; %s", on, err, s.LogTail())
	}
	return nil
}

// WaitReplicated returns when a standby of s has applied all that was written on s before the call.
func (s *Server) WaitReplicated(ctx context.Context) error {
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var position string
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_lsn()::text").Scan(&position); err != nil {
			return err
		}
		return waitTrue(ctx, conn, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_replication "+
			"WHERE state = 'streaming' AND replay_lsn >= $1::text::pg_lsn)", position)
	})
	if err != nil {
		return fmt.Errorf("throwaway: waiting for the standby: %w; %s", err, s.LogTail())
	}
	return nil
}

// LogTail returns the end of the log of a server of our own that is installed on this machine, for an error message.
func (s *Server) LogTail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.local()
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return l.scratch.logTail()
}

// ask runs statements on a connection of their own, within a bound.
func (s *Server) ask(ctx context.Context, statements func(context.Context, *pgx.Conn) error) error {
	if !s.owned {
		return errNotOwned
	}
	ctx, cancel := context.WithTimeout(ctx, replicateMax+5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return statements(ctx, conn)
}

// waitTrue asks again until the answer is true: replication sends no event.
func waitTrue(ctx context.Context, conn *pgx.Conn, question string, args ...any) error {
	const pause = 10 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, replicateMax, fmt.Errorf("not within %v", replicateMax))
	defer cancel()
	for {
		var yes bool
		if err := conn.QueryRow(ctx, question, args...).Scan(&yes); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// clone fills the empty data directory with a copy of the primary's, to start as its standby. The primary keeps
// enough of its log for a standby that is away for a while.
func (l *local) clone(ctx context.Context, primaryURL string) error {
	found, err := l.found.with("pg_basebackup")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, primaryURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range []string{"ALTER SYSTEM SET wal_keep_size = '512MB'", "SELECT pg_catalog.pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	cmd := found.command(ctx, "pg_basebackup", "-d", primaryURL, "-D", l.scratch.data(),
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	cmd.Dir = l.scratch.dir
	shareLock(cmd, l.scratch.marker)
	if _, err = runToEnd(ctx, cmd); err != nil {
		return err
	}
	// The commits of the copied primary may wait for a standby. If the copy becomes a primary, it has no standby yet.
	return l.configure("synchronous_standby_names = ''")
}

func (l *local) followNobody() error {
	signal := filepath.Join(l.scratch.data(), standbySignal)
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if runAs := l.found.runAs; runAs != nil { // that user removes it when the server is promoted
		if err := os.Chown(signal, int(runAs.uid), int(runAs.gid)); err != nil {
			return err
		}
	}
	return l.configure("primary_conninfo = ''")
}

// configure adds a line to the file of ALTER SYSTEM. The last line for a setting counts.
func (l *local) configure(line string) (err error) {
	file, err := os.OpenFile(filepath.Join(l.scratch.data(), autoConf), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = fmt.Fprintln(file, line)
	return err
}

// emptyData replaces the data directory by an empty one.
func (s *scratch) emptyData(runAs *account) error {
	if err := os.RemoveAll(s.data()); err != nil {
		return err
	}
	if err := os.Mkdir(s.data(), 0o700); err != nil {
		return err
	}
	if runAs == nil {
		return nil
	}
	return os.Chown(s.data(), int(runAs.uid), int(runAs.gid))
}

// with returns the installation with the directory of a further program. If initdb and postgres are links, the other
// programs are where the links lead.
func (f installation) with(program string) (installation, error) {
	dirs := []string{f.dir}
	if target, err := filepath.EvalSymlinks(filepath.Join(f.dir, "postgres")); err == nil {
		dirs = append(dirs, filepath.Dir(target))
	}
	for _, dir := range dirs {
		if info, err := os.Stat(filepath.Join(dir, program)); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			f.dir = dir
			return f, nil
		}
	}
	return f, fmt.Errorf("%s is not in %v", program, dirs)
}
