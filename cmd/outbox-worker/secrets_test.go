package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// spawn starts the program as a process of its own.
func spawn(t *testing.T, db *testdb.DB, environ []string, args ...string) (*running, *exec.Cmd) {
	t.Helper()
	cmd := db.Command(childProgram, environ...)
	cmd.Args = append(cmd.Args, args...)
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	r := &running{
		t: t, stop: func() { _ = cmd.Process.Signal(syscall.SIGTERM) },
		lines: make(chan string, 10_000), ended: make(chan int, 1), // large, because the test does not read while much is logged
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		r.ended <- cmd.ProcessState.ExitCode()
		_ = writer.Close()
	}()
	go r.read(reader)
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return r, cmd
}

// egressProxy opens tunnels for clients with its password, once it is open.
type egressProxy struct {
	url, credentials string
	open             atomic.Bool
}

func newEgressProxy(t *testing.T, password string) *egressProxy {
	t.Helper()
	p := &egressProxy{credentials: base64.StdEncoding.EncodeToString([]byte("egress:" + password))}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = "http://egress:" + password + "@" + server.Listener.Addr().String()
	return p
}

func (p *egressProxy) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodConnect || q.Header.Get("Proxy-Authorization") != "Basic "+p.credentials || !p.open.Load() {
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	to, err := net.Dial("tcp", q.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = to.Close() }()
	from, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
}

// withPassword returns the database's URL with a role of its own, which is dropped when the test ends.
func withPassword(t *testing.T, db *testdb.DB, password string) string {
	t.Helper()
	u, err := url.Parse(db.URL)
	if err != nil || u.Scheme == "" {
		t.Fatalf("the database is not named by a URL (%v), want one for this test", err)
	}
	role, owner := db.Name+"_role", ""
	if err := db.Pool.QueryRow(t.Context(), "SELECT current_user").Scan(&owner); err != nil {
		t.Fatal(err)
	}
	execute(t, db, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE %s", role, password, pgx.Identifier{owner}.Sanitize()))
	t.Cleanup(func() {
		if _, err := db.Pool.Exec(context.Background(), "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	u.User = url.UserPassword(role, password)
	return u.String()
}

// secrets holds texts that must appear nowhere, and the texts in which the test searches for them.
type secrets struct {
	t      *testing.T
	traces map[string]string // by trace: the secret that it belongs to
	looked map[string]string // by place: the text found there
}

// everything adds the rows of every table as text, with bytea in hex.
func (s *secrets) everything(db *testdb.DB) {
	s.t.Helper()
	rows, err := db.Pool.Query(s.t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = $1", db.Schema)
	if err != nil {
		s.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 5 {
		s.t.Fatalf("the tables are %v, %v; want 5 at least", tables, err)
	}
	for _, table := range tables {
		var text string
		sql := fmt.Sprintf("SELECT coalesce(string_agg(r::text, E'\\n'), '') FROM %s.%s r", db.Schema, table)
		if err := db.Pool.QueryRow(s.t.Context(), sql).Scan(&text); err != nil {
			s.t.Fatal(err)
		}
		s.looked["table "+table] = text
	}
}

// search fails for each trace that it finds. presence names a word that must be in a place, which shows that the search works.
func (s *secrets) search(presence map[string]string) {
	s.t.Helper()
	for place, word := range presence {
		if !strings.Contains(s.looked[place], word) {
			s.t.Errorf("%s does not contain %q, so the search in it proves nothing:\n%s", place, word, s.looked[place])
		}
	}
	for place, text := range s.looked {
		for trace, whose := range s.traces {
			if i := strings.Index(text, trace); i >= 0 {
				s.t.Errorf("%s is in %s, want it nowhere: …%q…", whose, place, text[max(0, i-200):min(len(text), i+len(trace)+50)])
			}
		}
	}
}

// cmdline adds a process's arguments, which every user of the machine can read.
func (s *secrets) cmdline(name string, cmd *exec.Cmd) {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err != nil {
		return // only Linux has these files
	}
	s.looked["arguments of "+name] = string(bytes.ReplaceAll(text, []byte{0}, []byte(" ")))
}

func TestSecretsAppearNowhere(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	shared, private, foreign, damaged := generated(t, webhook.HMAC), generated(t, webhook.Ed25519), generated(t, webhook.HMAC), generated(t, webhook.Ed25519)
	databasePassword, proxyPassword := rand.Text(), rand.Text()
	proxy := newEgressProxy(t, proxyPassword)
	s := &secrets{t: t, looked: map[string]string{}, traces: map[string]string{
		databasePassword: "the database's password", proxyPassword: "the proxy's password", proxy.credentials: "the proxy's password in base64",
	}}
	for whose, key := range map[string]webhook.Key{"the HMAC key": shared, "the Ed25519 key": private, "the foreign key": foreign, "the damaged key": damaged} {
		for _, trace := range traces(t, key) {
			s.traces[trace] = whose
		}
	}
	run := fullRun{
		t: t, db: db, proxy: proxy, file: keysFile(t, "# nothing yet"),
		good: "acme = " + private.Reveal(), bad: "acme = " + damaged.Reveal()[:60] + " " + foreign.Reveal(),
		env: append(environment(db), "OUTBOX_DATABASE_URL="+withPassword(t, db, databasePassword), "OUTBOX_PROXY_URL="+proxy.url,
			"OUTBOX_SIGNING_KEYS=default="+shared.Reveal()+";foreign="+foreign.Reveal(), "OUTBOX_LOG_LEVEL=debug",
			"OUTBOX_RECEIVE_KEYS="+shared.Reveal()+","+publicText(private)),
	}
	run.env = append(run.env, "OUTBOX_SIGNING_KEYS_FILE="+run.file)
	run.everything(s)
	s.everything(db)
	s.search(map[string]string{
		"table message": "run-acme", "table attempt": "no webhook signature matches", "table due": "signing key", "table river_job": "outbox_drain",
		"worker": "attempt: delivered", "receiver": "verified by key 2", "config": "OUTBOX_PROXY_URL=http://egress:xxxxx@",
		"show": "answered 401", "/.well-known/jwks.json": private.ID(), "keys list": private.ID(), "status": "retrying",
	})
	if _, ok := s.looked["arguments of worker"]; !ok && runtime.GOOS == "linux" {
		t.Error("the test did not search the processes' arguments, want that it does on Linux")
	}
}

// fullRun is a worker and a receiver as processes, and the faults that they meet: a proxy that refuses, a missing key, a wrong
// file of keys, a receiver with another key, a database that ends connections.
type fullRun struct {
	t               *testing.T
	db              *testdb.DB
	env             []string
	proxy           *egressProxy
	file, good, bad string
}

func (f fullRun) everything(s *secrets) {
	receiver, receiverProcess := spawn(f.t, f.db, f.env, "receive", "--addr", "127.0.0.1:0", "--body")
	url := regexp.MustCompile(`http://[^;]+`).FindString(receiver.line("receiving on"))
	byDefault, byName, unknown, refused := signedBy(f.t, f.db, url, ""), signedBy(f.t, f.db, url, "acme"), signedBy(f.t, f.db, url, "nobody"),
		signedBy(f.t, f.db, url, "foreign")
	worker, workerProcess := spawn(f.t, f.db, f.env, "run")
	admin := adminOf(f.t, worker.line("outbox-worker runs"))
	s.cmdline("worker", workerProcess)
	s.cmdline("receiver", receiverProcess)

	awaitMessage(f.t, f.db, byDefault, "waits_for LIKE '%proxy%' AND locked_by IS NULL")
	awaitMessage(f.t, f.db, byName, "waits_for LIKE 'signing key%' AND locked_by IS NULL")
	f.look(s, "before", admin, byDefault.String())
	replaceKeys(f.t, f.file, f.bad)
	awaitKeyLog(f.t, worker, admin, "changed and cannot be used")
	replaceKeys(f.t, f.file, f.good)
	awaitJWKS(f.t, admin, "acme/")
	f.proxy.open.Store(true)
	execute(f.t, f.db, "UPDATE outbox.due SET due_at = now()")
	for _, id := range []outbox.ID{byDefault, byName} {
		awaitMessage(f.t, f.db, id, "state = 'delivered'")
	}
	awaitMessage(f.t, f.db, refused, "state = 'dead'")
	awaitMessage(f.t, f.db, unknown, "waits_for LIKE 'signing key%' AND locked_by IS NULL")
	execute(f.t, f.db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", f.db.Name+"_role")
	after := signedBy(f.t, f.db, url, "acme")
	awaitMessage(f.t, f.db, after, "state = 'delivered'")
	f.look(s, "", admin, refused.String())
	for name, r := range map[string]*running{"worker": worker, "receiver": receiver} {
		if status, rest := r.end(); status != exitOK {
			f.t.Errorf("%s ends with %d, want 0:\n%s", name, status, rest)
		}
		s.looked[name] = r.said()
	}
}

// look adds what the admin server and the operator's commands print.
func (f fullRun) look(s *secrets, when, admin, id string) {
	for _, path := range []string{"/healthz", "/readyz", "/.well-known/jwks.json"} {
		_, text := get(f.t, "http://"+admin+path)
		s.looked[strings.TrimSpace(path+" "+when)] = text
	}
	for _, command := range []string{
		"config", "config --json", "status", "status --json", "list", "list --json", "show", "show --json", "keys list", "keys list --json",
		"keys public", "migrate status", "version",
	} {
		args := strings.Fields(command)
		if args[0] == "show" {
			args = append(args, id)
		}
		got := invoke(f.t, f.env, args...)
		if got.status != exitOK {
			f.t.Errorf("%s ends with %d, want 0:\n%s", command, got.status, got.stderr)
		}
		s.looked[strings.TrimSpace(command+" "+when)] = got.stdout + got.stderr
	}
}
