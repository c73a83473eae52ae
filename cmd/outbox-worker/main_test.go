package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// childProgram names the child that runs this program in its own process, so that a test can send it signals.
const childProgram = "outbox-worker"

func TestMain(m *testing.M) { testdb.Main(m, testdb.Child{Name: childProgram, Run: start}) }

// invocation is one run of the real program.
type invocation struct {
	status         int
	stdout, stderr string
}

// invoke runs the program until it ends.
func invoke(t *testing.T, environ []string, args ...string) invocation {
	t.Helper()
	return invokeWith(t, environ, "", args...)
}

func invokeWith(t *testing.T, environ []string, stdin string, args ...string) invocation {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, environ, strings.NewReader(stdin), &stdout, &stderr)
	return invocation{status, stdout.String(), stderr.String()}
}

// environment names a test's database, and allows a worker to deliver to this machine.
func environment(db *testdb.DB) []string {
	return []string{
		"OUTBOX_DATABASE_URL=" + db.URL, "OUTBOX_SCHEMA=" + db.Schema, "OUTBOX_ADMIN_ADDR=127.0.0.1:0",
		"OUTBOX_ALLOW_HTTP=true", "OUTBOX_ALLOWED_CIDRS=127.0.0.0/8", "OUTBOX_LOG_FORMAT=json",
	}
}

// wants checks the exit status, and that the output contains each text.
func (i invocation) wants(t *testing.T, status int, texts ...string) {
	t.Helper()
	if i.status != status {
		t.Errorf("exit status %d, want %d", i.status, status)
	}
	for _, text := range texts {
		if !strings.Contains(i.stdout+i.stderr, text) {
			t.Errorf("the output does not contain %q", text)
		}
	}
	if t.Failed() {
		t.Fatalf("stdout:\n%s\nstderr:\n%s", i.stdout, i.stderr)
	}
}

// decoded reads the JSON on stdout.
func decoded[T any](t *testing.T, i invocation) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(strings.NewReader(i.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("stdout is not the JSON that the test wants: %v\nstdout:\n%s\nstderr:\n%s", err, i.stdout, i.stderr)
	}
	return v
}

// written inserts a message as a service does, and returns its id.
func written(t *testing.T, db *testdb.DB, m outbox.Message) outbox.ID {
	t.Helper()
	w, err := outbox.NewWriter(outbox.Config{Schema: db.Schema})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	id, err := w.Insert(t.Context(), tx, m)
	if err == nil {
		err = tx.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// execute runs SQL that names the default schema.
func execute(t *testing.T, db *testdb.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), strings.ReplaceAll(sql, "outbox.", db.Schema+"."), args...); err != nil {
		t.Fatal(err)
	}
}

// running is a program that runs until its context ends.
type running struct {
	t     *testing.T
	stop  func()
	lines chan string // of stdout and stderr
	ended chan int    // the exit status

	mu   sync.Mutex
	text strings.Builder // all lines
}

const patience = time.Minute

// begin starts the program.
func begin(t *testing.T, environ []string, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, stop: stop, lines: make(chan string, 1000), ended: make(chan int, 1)}
	reader, writer := io.Pipe()
	go func() {
		r.ended <- run(ctx, args, environ, strings.NewReader(""), writer, writer)
		_ = writer.Close()
	}()
	go r.read(reader)
	t.Cleanup(stop)
	return r
}

func (r *running) read(from io.Reader) {
	defer close(r.lines)
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 4<<20)
	for scanner.Scan() {
		r.mu.Lock()
		r.text.WriteString(scanner.Text() + "\n")
		r.mu.Unlock()
		r.lines <- scanner.Text()
	}
}

// said returns all lines so far, also those that line has returned.
func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// line waits for the next line that contains text.
func (r *running) line(text string) string {
	r.t.Helper()
	var seen []string
	for timeout := time.After(patience); ; {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("the program ended without a line that contains %q; its lines:\n%s", text, strings.Join(seen, "\n"))
			}
			if strings.Contains(line, text) {
				return line
			}
			seen = append(seen, line)
		case <-timeout:
			r.t.Fatalf("no line contains %q within %v; the lines are:\n%s", text, patience, strings.Join(seen, "\n"))
		}
	}
}

// end stops the program and returns its exit status and the lines not yet read.
func (r *running) end() (status int, rest string) {
	r.t.Helper()
	r.stop()
	var lines []string
	timeout := time.After(patience)
	for r.lines != nil {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.lines = nil
				break
			}
			lines = append(lines, line)
		case <-timeout:
			r.t.Fatalf("the program did not end within %v", patience)
		}
	}
	return <-r.ended, strings.Join(lines, "\n")
}
