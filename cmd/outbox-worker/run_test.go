package main

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// beginWorker starts a worker, and returns the address of its admin server.
func beginWorker(t *testing.T, environ []string) (*running, string) {
	t.Helper()
	r := begin(t, environ, "run")
	return r, adminOf(t, r.line("outbox-worker runs"))
}

func adminOf(t *testing.T, line string) string {
	t.Helper()
	var entry struct{ Admin string }
	if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Admin == "" {
		t.Fatalf("the log line is %s (%v), want an admin address in it", line, err)
	}
	return entry.Admin
}

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestARunningWorkerDeliversAndStopsWhenAsked(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t, "--json", "--body")
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url + "/hook"})
	worker, admin := beginWorker(t, environment(db))
	line := receiver.line(id.String())
	if !strings.Contains(line, `"run_id":"run-1"`) || !strings.Contains(line, `{\"ok\":true}`) {
		t.Errorf("the receiver's line is %s, want the run and the body", line)
	}
	if status, text := get(t, "http://"+admin+"/healthz"); status != http.StatusOK || text != "alive\n" {
		t.Errorf("/healthz returns %d %s, want 200 alive", status, text)
	}
	if status, text := get(t, "http://"+admin+"/readyz"); status != http.StatusOK || text != "ready\n" {
		t.Errorf("/readyz returns %d %s, want 200 ready", status, text)
	}
	env := append(environment(db), "OUTBOX_ADMIN_ADDR="+admin)
	invoke(t, env, "healthcheck").wants(t, exitOK, "alive\n")
	invoke(t, env, "healthcheck", "--ready").wants(t, exitOK, "ready\n")
	if status, rest := worker.end(); status != exitOK || !strings.Contains(rest, "asked to stop") {
		t.Errorf("exit status %d, want 0, and that it was asked to stop:\n%s", status, rest)
	}
	invoke(t, env, "healthcheck").wants(t, exitFailed, "connection refused")
	invoke(t, environment(db), "show", id.String()).wants(t, exitOK, "state      delivered\n")
	receiver.end()
}

func TestAWorkerWithoutADatabaseIsAliveButNotReady(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	worker, admin := beginWorker(t, append(environment(db), "OUTBOX_DATABASE_URL=postgres://app:hunter2@127.0.0.1:1/app?pool_max_conns=2"))
	if status, _ := get(t, "http://"+admin+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz returns %d, want 200", status)
	}
	status, text := get(t, "http://"+admin+"/readyz")
	if status != http.StatusServiceUnavailable || text == "" {
		t.Errorf("/readyz returns %d %s, want 503 and a reason", status, text)
	}
	env := []string{"OUTBOX_ADMIN_ADDR=" + admin}
	invoke(t, env, "healthcheck", "--ready").wants(t, exitFailed, "healthcheck: 503")
	ended, rest := worker.end()
	if ended != exitOK || strings.Contains(rest+text, "hunter2") {
		t.Errorf("exit status %d, want 0, and no password in the output:\n%s\n%s", ended, text, rest)
	}
}

func TestTheAdminServerCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	worker, admin := beginWorker(t, append(environment(db), "OUTBOX_ADMIN_ADDR=off"))
	if admin != "off" {
		t.Errorf("the admin server listens on %s, want off", admin)
	}
	invoke(t, []string{"OUTBOX_ADMIN_ADDR=off"}, "healthcheck").wants(t, exitUsage, "the worker answers no probes")
	if status, rest := worker.end(); status != exitOK {
		t.Errorf("exit status %d, want 0:\n%s", status, rest)
	}
}

// process starts the program as a process of its own, and returns the lines that it logs.
func process(t *testing.T, db *testdb.DB, environ []string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := db.Command(childProgram, environ...)
	cmd.Args = append(cmd.Args, args...)
	cmd.Stderr = nil
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(3*patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		_ = cmd.Process.Kill()
	})
	return cmd, bufio.NewScanner(stderr)
}

func scanTo(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	var seen []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
		seen = append(seen, lines.Text())
	}
	t.Fatalf("no line contains %q:\n%s", text, strings.Join(seen, "\n"))
}

func TestTheFirstSignalStopsAWorkerGracefullyAndTheSecondAtOnce(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t, "--hang")
	cmd, lines := process(t, db, append(environment(db), "OUTBOX_SHUTDOWN_TIMEOUT=10m", "OUTBOX_LEASE=15m", "OUTBOX_DELIVERY_TIMEOUT=10m",
		"OUTBOX_LOG_LEVEL=debug"), "run")
	scanTo(t, lines, "working")
	written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url})
	inFlight(t, db)
	for _, step := range []struct {
		signal os.Signal
		line   string
	}{{syscall.SIGTERM, "received the signal: terminated"}, {os.Interrupt, "ended at once by a second signal"}} {
		if err := cmd.Process.Signal(step.signal); err != nil {
			t.Fatal(err)
		}
		scanTo(t, lines, step.line)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != exitFailed {
		t.Errorf("exit status %d, want %d", got, exitFailed)
	}
	receiver.end()
}

// SIGTERM ends the whole process in time, though the database is silent and a request is under way.
func TestSIGTERMEndsAWorkerWhoseDatabaseIsSilent(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t, "--hang")
	proxy, through := faulty.Between(t, db.URL)
	cmd, lines := process(t, db, append(environment(db), "OUTBOX_DATABASE_URL="+through, "OUTBOX_SHUTDOWN_TIMEOUT=2s"), "run")
	scanTo(t, lines, "working")
	written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url})
	inFlight(t, db)
	proxy.Do(faulty.All, faulty.Freeze(faulty.Both))
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	scanTo(t, lines, `"answers not recorded: the database did not take them in time`)
	for lines.Scan() { // until the process ends
	}
	_ = cmd.Wait()
	took := time.Since(began)
	t.Logf("ended in %v", took)
	if promised, load := 4*time.Second, 8*time.Second; took > promised+load || cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("exit status %d after %v, want 0 after %v, and what a loaded machine adds", cmd.ProcessState.ExitCode(), took, promised)
	}
	receiver.end()
}

// After SIGHUP a worker signs with the new keys. If it cannot read a file, it logs that, and keeps the keys that it has.
func TestSIGHUPMakesAWorkerReadItsFilesAgain(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	dir := t.TempDir()
	keys, ca := filepath.Join(dir, "keys"), filepath.Join(dir, "ca.pem")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	generated := func() string {
		return strings.TrimSpace(invoke(t, nil, "keys", "generate").stdout)
	}
	put(keys, "default = "+generated())
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	put(ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	cmd, lines := process(t, db, append(environment(db), "OUTBOX_SIGNING_KEYS_FILE="+keys, "OUTBOX_CA_FILE="+ca), "run")
	scanTo(t, lines, "working")
	hangup := func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		scanTo(t, lines, "received SIGHUP")
	}
	put(keys, "default = "+generated()+"\nother = "+generated())
	hangup()
	scanTo(t, lines, `"names":["default","other"]`)
	scanTo(t, lines, `"setting":"OUTBOX_CA_FILE"`)
	put(ca, "nothing")
	put(keys, "default = wrong")
	hangup()
	scanTo(t, lines, "the keys in force stay")
	scanTo(t, lines, "what was in force stays")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	scanTo(t, lines, "stopped")
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != exitOK {
		t.Errorf("exit status %d, want %d", got, exitOK)
	}
}

// inFlight waits until a message is leased.
func inFlight(t *testing.T, db *testdb.DB) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < patience; {
		var leased bool
		err := db.Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM "+db.Schema+".due WHERE locked_until > now()) FROM pg_sleep(0.01)").Scan(&leased)
		if err != nil {
			t.Fatal(err)
		}
		if leased {
			return
		}
	}
	t.Fatalf("no message was leased within %v, want one", patience)
}

func TestASignalEndsACommandThatWaitsForALock(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE "+db.Schema+".message"); err != nil {
		t.Fatal(err)
	}
	cmd, lines := process(t, db, environment(db), "list")
	for waiting := false; !waiting; {
		err := tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
AND relation = $1::text::regclass) FROM pg_sleep(0.01)`, db.Schema+".message").Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	scanTo(t, lines, "outbox-worker: interrupted: received the signal: interrupt")
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != exitFailed {
		t.Errorf("exit status %d, want %d", got, exitFailed)
	}
}
