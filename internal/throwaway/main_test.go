//go:build unix

package throwaway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
)

// helperVariable makes the test program a parent that starts a server and waits to be killed.
const helperVariable = "EPILOGUE_THROWAWAY_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		helper()
		return
	}
	leakcheck.Main(m)
}

// helperReport is the helper's report about its server.
type helperReport struct {
	URL string
	Dir string
	PID int
}

func helper() {
	s, err := Start(context.Background(), Options{Own: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l := s.engine.(*local)
	report := helperReport{URL: s.URL(), Dir: l.scratch.dir, PID: l.running.cmd.Process.Pid}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		os.Exit(1)
	}
	select {}
}

// startHelper returns a running helper, which the test has to kill.
func startHelper(t *testing.T) (*exec.Cmd, helperReport) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	must(t, err)
	var report helperReport
	must(t, json.Unmarshal(line, &report))
	return cmd, report
}

// startOwnServer returns a server that ends with the test, and its engine.
func startOwnServer(t *testing.T, settings map[string]string) (*Server, *local) {
	t.Helper()
	s, err := Start(t.Context(), Options{Own: true, Settings: settings, Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop()) })
	return s, s.engine.(*local)
}

// ownTemp makes a TMPDIR that only this test uses. The server's user can enter it; that user cannot enter t.TempDir.
func ownTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "throwaway-test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o711))
	t.Setenv("TMPDIR", dir)
	return dir
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range entries {
		t.Errorf("%s is still there, want an empty directory", filepath.Join(dir, entry.Name()))
	}
}

// query returns the single value that the statement returns.
func query(t *testing.T, url, statement string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { must(t, conn.Close(t.Context())) }()
	var value string
	must(t, conn.QueryRow(t.Context(), statement).Scan(&value))
	return value
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { must(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), statement)
	must(t, err)
}

// processGone also counts a zombie as gone: the machine's first process decides whether an orphan is reaped.
func processGone(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// eventually waits for a condition for which there is no event, like the end of another process's child.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute, and this did not happen: %s", what)
		}
		time.Sleep(10 * time.Millisecond) // there is no event for what another process does
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustNotExist(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v), want it removed", path, err)
	}
}
