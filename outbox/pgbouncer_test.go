package outbox_test

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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestPgBouncersTransactionPoolingWritesTheSameRows(t *testing.T) {
	t.Parallel()
	reference := testdb.New(t)
	url := startPgBouncer(t, reference)
	writePgx(t, reference, samples())
	want := rows(t, reference)

	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		db := throughPgBouncer(t, testdb.NewEmpty(t), url, mode)
		must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
		must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
		writePgx(t, db, samples())
		mustBeSame(t, want, rows(t, db))
		operate(t, db)
	}
	db := testdb.New(t)
	pq := openPQ(t, &testdb.DB{URL: url})
	defer func() { must(t, pq.Close()) }()
	writeSQL(t, db, pq, samples())
	mustBeSame(t, want, rows(t, db))
}

// operate does with the messages what operators do, so that the pooler gets the store's statements too.
func operate(t *testing.T, db *testdb.DB) {
	t.Helper()
	s := newStore(t, db)
	waker, err := outbox.NewWaker(db.Pool, db.Schema)
	must(t, err)
	waker.Wake()
	must(t, waker.Close(t.Context()))
	id := samples()[0].ID
	must(t, s.Cancel(t.Context(), []outbox.ID{id}, "no longer wanted"))
	_, err = s.Replay(t.Context(), []outbox.ID{id}, "https://other.example")
	must(t, err)
	list, err := s.List(t.Context(), outbox.Filter{
		States: []outbox.State{outbox.StateCancelled, outbox.StateDead}, NewerThan: time.Hour,
	})
	must(t, err)
	if len(list) != 3 {
		t.Errorf("%d messages are listed, want 3: %v", len(list), list)
	}
	if d := show(t, db, id); d.State != outbox.StateCancelled {
		t.Errorf("it is %s", d.State)
	}
	_, err = s.Endpoints(t.Context(), 10)
	must(t, err)
}

func throughPgBouncer(t *testing.T, db *testdb.DB, url string, mode pgx.QueryExecMode) *testdb.DB {
	t.Helper()
	through := &testdb.DB{Schema: db.Schema, URL: url}
	through.Pool = through.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
	return through
}

// startPgBouncer returns the URL of a pooler before the server, with two connections for everybody.
func startPgBouncer(t *testing.T, db *testdb.DB) string {
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

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, listener.Close()) }()
	return listener.Addr().(*net.TCPAddr).Port
}

// waitForPort polls, for another program's start is no event of ours.
func waitForPort(t *testing.T, port int) {
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
