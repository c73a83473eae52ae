//go:build unix

package testdb

import (
	"fmt"
	"net"
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

// PgBouncer returns the URL of a pooler in transaction mode before the server, with two connections for everybody. Where
// it is not installed, the test is skipped.
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
	port := freePort(t)
	dir, err := os.MkdirTemp("/tmp", "pgbouncer-test-") // not t.TempDir, which another user cannot enter
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	ini := filepath.Join(dir, "pgbouncer.ini")
	must(t, os.WriteFile(ini, fmt.Appendf(nil, `[databases]
pooled = host=%s port=%d dbname=%s user=%s%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
`, server.Host, server.Port, server.Database, server.User, password, port), 0o600))

	cmd := exec.Command(program, "-q", ini)
	if os.Geteuid() == 0 { // which it refuses to run as
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
	waitForPort(t, port)
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/pooled?sslmode=disable", port)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, listener.Close()) }()
	return listener.Addr().(*net.TCPAddr).Port
}

// waitForPort polls, for another program's start is no event of ours.
func waitForPort(t testing.TB, port int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			must(t, conn.Close())
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer does not listen: %v", err)
		}
	}
}
