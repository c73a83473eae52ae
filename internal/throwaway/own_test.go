//go:build unix

package throwaway

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/lib/pq"
)

func TestAServerOfOurOwnAnswersPgxAndLibPQ(t *testing.T) {
	t.Parallel()
	s, _ := startOwnServer(t, map[string]string{"cluster_name": "it's = a name"})
	if got := query(t, s.URL(), "SELECT 1::text"); got != "1" {
		t.Errorf("SELECT 1 returns %q, want 1", got)
	}
	db, err := sql.Open("postgres", s.URL())
	must(t, err)
	defer func() { must(t, db.Close()) }()
	must(t, db.PingContext(t.Context()))
	if !s.Owned() || s.Version() == "" {
		t.Errorf("Owned is %v, want true; Version is %q, want a version", s.Owned(), s.Version())
	}
	for setting, want := range map[string]string{
		"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on", "max_connections": "200",
		"shared_buffers": "128MB", "server_encoding": "UTF8", "listen_addresses": "127.0.0.1",
		"unix_socket_directories": "", "cluster_name": "it's = a name",
	} {
		if got := query(t, s.URL(), "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

func TestCommittedDataSurvivesCrashAndRestart(t *testing.T) {
	t.Parallel()
	s, l := startOwnServer(t, map[string]string{"fsync": "on"})
	if got := query(t, s.URL(), "SELECT current_setting('fsync') || current_setting('full_page_writes')"); got != "onon" {
		t.Errorf("fsync and full_page_writes are %s, want both on", got)
	}
	execute(t, s.URL(), "CREATE TABLE kept AS SELECT 'still here'::text AS word")

	pid := l.running.cmd.Process.Pid
	must(t, s.Crash())
	if !processGone(pid) {
		t.Error("the server still runs after Crash")
	}
	if err := s.Crash(); !errors.Is(err, errEnded) {
		t.Errorf("a second Crash returns %v, want %v", err, errEnded)
	}
	must(t, s.Restart(t.Context()))
	if got := query(t, s.URL(), "SELECT word FROM kept"); got != "still here" {
		t.Errorf("after the restart the row holds %q, want \"still here\"", got)
	}
	must(t, s.Restart(t.Context())) // this time of a running server
	if got := query(t, s.URL(), "SELECT word FROM kept"); got != "still here" {
		t.Errorf("after the second restart the row holds %q, want \"still here\"", got)
	}
}

func TestStopLeavesNoDirectoryAndNoProcess(t *testing.T) {
	temp := ownTemp(t)
	s, l := startOwnServer(t, nil)
	pid := l.running.cmd.Process.Pid
	if dir := filepath.Dir(l.scratch.dir); dir != temp {
		t.Errorf("the data directory is in %s, want it in TMPDIR", dir)
	}
	must(t, s.Stop())
	must(t, s.Stop())
	mustBeEmpty(t, temp)
	if !processGone(pid) {
		t.Error("the server still runs after Stop")
	}
	if err := errors.Join(s.Crash(), s.Restart(t.Context())); !errors.Is(err, errStopped) {
		t.Errorf("Crash and Restart after Stop return %v, want %v", err, errStopped)
	}
}

func TestStopWorksAfterACrash(t *testing.T) {
	temp := ownTemp(t)
	s, _ := startOwnServer(t, nil)
	must(t, s.Crash())
	must(t, s.Stop())
	mustBeEmpty(t, temp)
}

func TestACancelledStartLeavesNothing(t *testing.T) {
	temp := ownTemp(t)
	before := idleSharedMemory(t)
	for _, after := range []time.Duration{0, 30 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := Start(ctx, Options{Own: true})
		cancel()
		switch {
		case err == nil: // a fast machine
			must(t, s.Stop())
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("a start that was cancelled after %v returns %v, want %v", after, err, context.DeadlineExceeded)
		}
		mustBeEmpty(t, temp)
	}
	// Other servers on this machine can have such segments for a moment while they start.
	eventually(t, "shared memory is released", func() bool {
		return !slices.ContainsFunc(idleSharedMemory(t), func(id string) bool { return !slices.Contains(before, id) })
	})
}

// idleSharedMemory returns the ids of the System V segments that no process uses, if the system lists them. Postgres
// locks its data directory with one.
func idleSharedMemory(t *testing.T) (ids []string) {
	t.Helper()
	list, err := os.ReadFile("/proc/sysvipc/shm")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	const id, attached = 1, 6 // columns
	for line := range strings.Lines(string(list)) {
		if fields := strings.Fields(line); len(fields) > attached && fields[attached] == "0" {
			ids = append(ids, fields[id])
		}
	}
	return ids
}

func TestAServerThatDoesNotStartShowsItsLogAndLeavesNothing(t *testing.T) {
	temp := ownTemp(t)
	_, err := Start(t.Context(), Options{Own: true, Settings: map[string]string{"work_mem": "plenty"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "work_mem"`) {
		t.Errorf("the error is %v, want the server's log in it", err)
	}
	mustBeEmpty(t, temp)
}

func TestADirectoryThatTheServerCannotEnterIsNotUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	closed := t.TempDir()
	must(t, os.Chmod(closed, 0o700))
	t.Setenv("TMPDIR", closed)
	_, l := startOwnServer(t, nil)
	if strings.HasPrefix(l.scratch.dir, closed) {
		t.Errorf("the data directory is in %s, which the server cannot enter", l.scratch.dir)
	}
}

func TestAPortInUseIsNotTaken(t *testing.T) {
	t.Parallel()
	s, l := startOwnServer(t, nil)
	// A second server with the port of the first must not take the answers of the first for its own.
	second := &local{found: l.found, options: l.options, port: l.port}
	var err error
	second.scratch, err = newScratch(scratchBases(false), l.found.runAs)
	must(t, err)
	defer func() { must(t, second.stop()) }()
	must(t, second.initialise(t.Context()))
	if _, err := second.start(t.Context()); !errors.Is(err, errEnded) {
		t.Errorf("start on a port in use returns %v, want %v", err, errEnded)
	}
	if got := query(t, s.URL(), "SELECT 1::text"); got != "1" {
		t.Errorf("SELECT 1 returns %q, want 1", got)
	}
}

func TestTheServerGetsTheVariablesItIsGiven(t *testing.T) {
	t.Parallel()
	s, err := Start(t.Context(), Options{Own: true, Env: []string{"EPILOGUE_ONE=1", "EPILOGUE_TWO=2"}, Log: t.Logf})
	must(t, err)
	defer func() { must(t, s.Stop()) }()
	pid := s.engine.(*local).running.cmd.Process.Pid
	environment, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this system does not show the environment of a process")
	}
	must(t, err)
	if !strings.Contains(string(environment), "EPILOGUE_ONE=1\x00EPILOGUE_TWO=2") {
		t.Errorf("the environment of the server is %q, want the two variables in it", environment)
	}
}
