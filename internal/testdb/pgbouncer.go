//go:build unix

package testdb

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// PgBouncer returns the URL of a pooler in transaction mode in front of the server, with two connections for all clients. If
// PgBouncer is not installed, the test is skipped.
func PgBouncer(t testing.TB, db *DB) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not installed, so transaction pooling is not tested here (apt-get install pgbouncer)")
	}
	server := db.Pool.Config().ConnConfig
	password := ""
	if server.Password != "" {
		password = " password='" + strings.ReplaceAll(server.Password, "'", "''") + "'"
	}
	// It listens on a Unix socket, because a port that was free a moment ago may belong to another test by now.
	const port = 6432
	dir, err := os.MkdirTemp("/tmp", "pgbouncer-test-") // not t.TempDir, which another user cannot enter
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	ini := filepath.Join(dir, "pgbouncer.ini")
	must(t, os.WriteFile(ini, fmt.Appendf(nil, `[databases]
pooled = host=%s port=%d dbname=%s user=%s%s
[pgbouncer]
listen_addr =
listen_port = %d
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
`, server.Host, server.Port, server.Database, server.User, password, port, dir), 0o600))

	cmd := exec.Command(program, "-q", ini)
	if os.Geteuid() == 0 { // PgBouncer refuses to run as root
		nobody, err := user.Lookup("nobody")
		must(t, err)
		uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
		must(t, err)
		gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
		must(t, err)
		must(t, os.Chown(dir, int(uid), int(gid)))
		must(t, os.Chown(ini, int(uid), int(gid)))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitForSocket(t, filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port)))
	return fmt.Sprintf("postgres://postgres@/pooled?host=%s&port=%d&sslmode=disable", url.QueryEscape(dir), port)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
}

// waitForSocket polls, because there is no event for the start of another program.
func waitForSocket(t testing.TB, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			must(t, conn.Close())
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer does not listen after a minute: %v", err)
		}
	}
}
