package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

const callback = "http://127.0.0.1:9/callback"

// rig is a service with its own schemas and its own tree of files.
type rig struct {
	store  *store
	outbox string
	root   string
}

func newRig(t *testing.T, tree map[string]string) *rig {
	t.Helper()
	server, err := throwaway.Start(t.Context(), throwaway.Options{Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	pool, err := pgxpool.New(t.Context(), server.URL())
	must(t, err)
	t.Cleanup(pool.Close)
	name := "demo_test_" + strings.ToLower(rand.Text()[:8])
	r := &rig{outbox: name + "_outbox", root: t.TempDir()}
	must(t, migrations.Up(t.Context(), pool, migrations.Config{Schema: r.outbox}))
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), fmt.Sprintf("DROP SCHEMA IF EXISTS %s, %s CASCADE", name, r.outbox))
		must(t, err)
	})
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: r.outbox, ForwardHeaders: []string{compare.AttemptHeader}})
	must(t, err)
	r.store = newStore(pool, name, terminal)
	for path, content := range tree {
		path = filepath.Join(r.root, filepath.FromSlash(path))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return r
}

func (r *rig) submit(t *testing.T) int {
	t.Helper()
	paths, err := list(r.root, 0, 1)
	must(t, err)
	must(t, r.store.create(t.Context()))
	n, err := r.store.submit(t.Context(), paths, callback)
	must(t, err)
	return n
}

func (r *rig) engine(failing float64) *engine {
	return &engine{
		store: r.store, wake: func() {}, root: r.root, workers: 2, seed: 1, failing: failing,
		log: slog.New(slog.DiscardHandler),
	}
}

// one returns the single value that the statement returns, as text.
func (r *rig) one(t *testing.T, sql string, args ...any) (text string) {
	t.Helper()
	sql = strings.ReplaceAll(r.store.in(sql), "outbox.", r.outbox+".")
	must(t, r.store.pool.QueryRow(t.Context(), sql, args...).Scan(&text))
	return text
}

// manyFiles returns a tree of n files that can be parsed.
func manyFiles(n int) map[string]string {
	tree := map[string]string{}
	for i := range n {
		tree[fmt.Sprintf("src/p%d/p.go", i)] = fmt.Sprintf("package p%d\n", i)
	}
	return tree
}

func TestEachKindOfFileEndsItsRunAsItShould(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{
		"src/good/good.go":   "// Package good is.\npackage good\n\nimport \"fmt\"\n\nfunc Say() {\n\tfmt.Println()\n}\n",
		"src/good/Äfoo.go":   "package good\n",
		"src/bad/bad.go":     "package bad\n\nfunc {\n",
		"src/bad/quoted.go":  "package bad\n\nvar x = 1 \"\xff\x00\"\n",
		"src/bad/nothing.go": "",
		"test/notes.txt":     "one line\nand another, longer\n",
		"test/picture.bin":   "\x00\x01\xff",
		"test/huge.go":       strings.Repeat("// a line of a comment\n", 20_000),
	})
	if n := r.submit(t); n != 8 {
		t.Fatalf("%d runs submitted, want 8", n)
	}
	must(t, r.engine(0).run(t.Context()))
	for path, want := range map[string]string{
		"src/good/good.go":   `succeeded 4 {"path":"src/good/good.go","kind":"go","bytes":78,"sha256":"SUM","lines":8,"longest_line_bytes":19,"package":"good","imports":1,"funcs":1,"longest_func_lines":3,"undocumented":1,"verdict":"leaves the reader guessing"}`,
		"src/good/Äfoo.go":   `succeeded 4 {"path":"src/good/Äfoo.go","kind":"go","bytes":13,"sha256":"SUM","lines":1,"longest_line_bytes":12,"package":"good","verdict":"fine"}`,
		"src/bad/bad.go":     "failed 2 src/bad/bad.go:3:6: expected 'IDENT', found '{'",
		"src/bad/nothing.go": "failed 2 src/bad/nothing.go:1:1: expected 'package', found 'EOF'",
		"test/notes.txt":     `succeeded 4 {"path":"test/notes.txt","kind":"text","bytes":29,"sha256":"SUM","lines":2,"longest_line_bytes":19,"verdict":"fine"}`,
		"test/picture.bin":   `succeeded 4 {"path":"test/picture.bin","kind":"binary","bytes":3,"sha256":"SUM","verdict":"not for people"}`,
		"test/huge.go":       "cancelled 1 test/huge.go has 460000 bytes, the limit is 262144",
	} {
		content, err := os.ReadFile(filepath.Join(r.root, filepath.FromSlash(path)))
		must(t, err)
		want = strings.ReplaceAll(want, "SUM", fmt.Sprintf("%x", sha256.Sum256(content)))
		got := r.one(t, `SELECT format('%s %s %s', r.status, (SELECT count(*) FROM demo.step WHERE run_id = r.id),
coalesce(convert_from(r.result, 'UTF8'), r.error)) FROM demo.run r WHERE r.id = $1`, path)
		if got != want {
			t.Errorf("%s ended as\n%s\nwant\n%s", path, got, want)
		}
	}
	mustAgree(t, r, 8)
}

func TestAnAcknowledgementThatFailsLeavesNothingAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyFiles(60))
	r.submit(t)
	must(t, r.engine(0.3).run(t.Context()))
	mustAgree(t, r, 60)
	if got := r.one(t, `SELECT count(*)::text FROM demo.rolled_back`); got == "0" {
		t.Error("no last step was rolled back, so the test proves nothing")
	}
	if got := r.one(t, `SELECT count(*)::text FROM outbox.message m JOIN demo.rolled_back b ON b.attempt = m.headers->>$1`,
		compare.AttemptHeader); got != "0" {
		t.Errorf("%s messages come from acknowledgements that were rolled back, want none", got)
	}
}

func TestAServiceThatWasStoppedContinuesWhereItWas(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyFiles(80))
	r.submit(t)
	stopped, ended := 0, 0
	for ended < 80 {
		// The service is stopped after ten ends, while other transactions are open.
		ctx, stop := context.WithCancel(t.Context())
		e, woken := r.engine(0.1), make(chan struct{}, 80)
		e.wake = func() { woken <- struct{}{} }
		go func() {
			defer stop()
			for range 10 {
				select {
				case <-woken:
				case <-ctx.Done():
					return
				}
			}
		}()
		if err := e.run(ctx); err != nil {
			stopped++
		}
		stop()
		_, err := fmt.Sscan(r.one(t, `SELECT count(*)::text FROM demo.run WHERE status IS NOT NULL`), &ended)
		must(t, err)
	}
	must(t, r.engine(0.1).run(t.Context())) // nothing is left to do
	if stopped == 0 {
		t.Error("the service always ended before it was stopped, so the test proves nothing")
	}
	mustAgree(t, r, 80)
}

func TestTwoServicesEndEachRunOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyFiles(60))
	r.submit(t)
	other := make(chan error)
	go func() { other <- r.engine(0.1).run(t.Context()) }()
	must(t, r.engine(0.1).run(t.Context()))
	must(t, <-other)
	mustAgree(t, r, 60)
}

func TestSubmittingAgainAddsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyFiles(3))
	if first, second := r.submit(t), r.submit(t); first != 3 || second != 3 {
		t.Errorf("submitted %d runs, then %d, want 3 both times", first, second)
	}
}

func TestBadOptionsAreNamedTogether(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"submit", "-workers", "0", "-files", "-1", "-failing", "2", "-schema", "public"}, &bytes.Buffer{})
	for _, want := range []string{"-root", "-callback", "-workers", "-files", "-failing", "public"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}

func TestTheErrorForADistributionWithoutFilesNamesGOROOT(t *testing.T) {
	t.Parallel()
	if _, err := list(t.TempDir(), 0, 1); err == nil || !strings.Contains(err.Error(), "go env GOROOT") {
		t.Errorf("the error is %v, want \"go env GOROOT\" in it", err)
	}
}

// mustAgree compares the end of every run with its message: each run ended once, and has one message with the same outcome.
func mustAgree(t *testing.T, r *rig, runs int) {
	t.Helper()
	mustAgreeOf(t, r, runs, `m.final_step = (SELECT max(number) FROM demo.step WHERE run_id = r.id)`)
	if got := r.one(t, `SELECT count(*)::text FROM demo.step WHERE state = 'ready'`); got != "0" {
		t.Errorf("%s steps are still ready", got)
	}
}

// mustAgreeOf is mustAgree with one more condition on the message, which depends on the engine.
func mustAgreeOf(t *testing.T, r *rig, runs int, more string) {
	t.Helper()
	want := fmt.Sprintf("%d ended, %d messages, %d the same, %d due", runs, runs, runs, runs)
	got := r.one(t, `SELECT format('%s ended, %s messages, %s the same, %s due',
(SELECT count(*) FROM demo.run WHERE status IS NOT NULL),
(SELECT count(*) FROM outbox.message),
(SELECT count(*) FROM demo.run r JOIN outbox.message m ON m.run_id = r.id AND m.headers->>$1 = r.attempt AND m.status = r.status
   AND m.result IS NOT DISTINCT FROM r.result AND m.error IS NOT DISTINCT FROM r.error
   AND `+more+`),
(SELECT count(*) FROM outbox.due))`, compare.AttemptHeader)
	if got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
