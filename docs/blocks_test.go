// Package docs_test compiles and runs the code on the pages.
package docs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// block is a piece of code in a page.
type block struct {
	where, language, text string
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// blocks returns the code of the README, of SECURITY.md and of the pages here.
func blocks(t *testing.T) (all []block) {
	t.Helper()
	pages, err := filepath.Glob("*.md")
	must(t, err)
	for _, page := range append(pages, "../README.md", "../SECURITY.md") {
		text, err := os.ReadFile(page)
		must(t, err)
		for i, found := range fenced.FindAllSubmatch(text, -1) {
			all = append(all, block{fmt.Sprintf("%s, block %d", page, i+1), string(found[1]), string(found[2])})
		}
	}
	return all
}

func ofLanguage(t *testing.T, language string) []block {
	t.Helper()
	return slices.DeleteFunc(blocks(t), func(b block) bool { return b.language != language })
}

// TestEveryBlockIsInALanguageThatTheTestsKnow: the tests run the blocks of a language, or leave them out on purpose.
func TestEveryBlockIsInALanguageThatTheTestsKnow(t *testing.T) {
	t.Parallel()
	for _, b := range blocks(t) {
		if !slices.Contains([]string{"go", "sql", "python", "javascript", "sh", "yaml", "ini", "json"}, b.language) {
			t.Errorf("%s is in the language %q, want one that the tests know", b.where, b.language)
		}
	}
}

// overlaid adds files to this module for the go command only: neither they nor their directories exist.
func overlaid(t *testing.T, files map[string]string) (flag string) {
	t.Helper()
	root, err := filepath.Abs("..")
	must(t, err)
	replace, dir := map[string]string{}, t.TempDir()
	for name, text := range files {
		real := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		must(t, os.WriteFile(real, []byte(text), 0o600))
		replace[filepath.Join(root, name)] = real
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	must(t, err)
	path := filepath.Join(dir, "overlay.json")
	must(t, os.WriteFile(path, overlay, 0o600))
	return "-overlay=" + path
}

func TestEveryBlockOfGoIsAFileThatCompiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	var packages []string
	for i, b := range ofLanguage(t, "go") {
		if !strings.HasPrefix(b.text, "package ") {
			t.Errorf("%s is not a complete file, want one that begins with its package", b.where)
			continue
		}
		name := fmt.Sprintf("docs/block%d", i)
		packages = append(packages, "./"+name)
		files[name+"/block.go"] = b.text // even if the block is a test: the go command would leave out a file with the name of a test
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", overlaid(t, files)}, packages...)...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEveryBlockOfSQLRuns(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for _, b := range ofLanguage(t, "sql") {
		tx, err := db.Pool.Begin(t.Context())
		must(t, err)
		sql := strings.NewReplacer("outbox.", db.Schema+".", "SCHEMA outbox ", "SCHEMA "+db.Schema+" ").Replace(b.text)
		if _, err := tx.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%s: %v", b.where, err)
		}
		must(t, tx.Rollback(t.Context())) // roles belong to the server
	}
}

// TestTheProgramOfTheREADMEWritesToItsReceiver runs it as a new user would. It must write a message to the receiver that the
// README starts.
func TestTheProgramOfTheREADMEWritesToItsReceiver(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	must(t, err)
	first := slices.DeleteFunc(ofLanguage(t, "go"), func(b block) bool { return !strings.HasPrefix(b.where, "../README.md") })[0]
	url := ownDatabase(t)
	pool, err := pgxpool.New(t.Context(), url)
	must(t, err)
	t.Cleanup(pool.Close)
	must(t, migrations.Up(t.Context(), pool, migrations.Config{}))
	cmd := exec.CommandContext(t.Context(), "go", "run", overlaid(t, map[string]string{"docs/first/main.go": first.text}), "./docs/first")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "OUTBOX_DATABASE_URL="+url)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "written") {
		t.Fatalf("%v\n%s", err, out)
	}
	var callback string
	must(t, pool.QueryRow(t.Context(), "SELECT m.url FROM outbox.message m JOIN outbox.due d ON d.message_id = m.id").Scan(&callback))
	if !strings.Contains(string(readme), "receive --addr "+strings.TrimSuffix(strings.TrimPrefix(callback, "http://"), "/hook")) {
		t.Errorf("the URL of the message is %s, want that of the receiver that the README starts", callback)
	}
}

// TestTheProgramOfTheRiverstepPageRunsToItsEnd, on tables that the migrations of the outbox alone have made.
func TestTheProgramOfTheRiverstepPageRunsToItsEnd(t *testing.T) {
	t.Parallel()
	page := slices.DeleteFunc(ofLanguage(t, "go"), func(b block) bool { return !strings.HasPrefix(b.where, "riverstep.md") })[0]
	url := ownDatabase(t)
	pool, err := pgxpool.New(t.Context(), url)
	must(t, err)
	t.Cleanup(pool.Close)
	must(t, migrations.Up(t.Context(), pool, migrations.Config{}))
	cmd := exec.CommandContext(t.Context(), "go", "run", overlaid(t, map[string]string{"docs/steps/main.go": page.text}), "./docs/steps")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "OUTBOX_DATABASE_URL="+url)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "succeeded; its outcome is on its way") {
		t.Fatalf("%v\n%s", err, out)
	}
	var bookings, due int
	must(t, pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM orders.booking), (SELECT count(*) FROM outbox.due)").Scan(&bookings, &due))
	if bookings != 1 || due != 1 {
		t.Errorf("got %d bookings and %d due messages, want 1 of each", bookings, due)
	}
}

// TestTheProgramOfTheEmbeddingPageWorksUntilItIsInterrupted, whatever size of the pool is the default on this machine.
func TestTheProgramOfTheEmbeddingPageWorksUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	page := slices.DeleteFunc(ofLanguage(t, "go"), func(b block) bool { return !strings.HasPrefix(b.where, "embedding.md") })[0]
	program := filepath.Join(t.TempDir(), "embedding")
	build := exec.CommandContext(t.Context(), "go", "build", overlaid(t, map[string]string{"docs/embedded/main.go": page.text}), "-o", program, "./docs/embedded")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "OUTBOX_DATABASE_URL="+ownDatabase(t))
	said, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	var log []string
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if log = append(log, lines.Text()); strings.Contains(lines.Text(), " working ") {
			must(t, cmd.Process.Signal(os.Interrupt))
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(strings.Join(log, "\n"), " stopped") {
		t.Errorf("%v\n%s", err, strings.Join(log, "\n"))
	}
}

// ownDatabase returns the URL of a database that only this test uses: the README uses the default schema.
func ownDatabase(t *testing.T) string {
	t.Helper()
	db := testdb.NewEmpty(t)
	name := "docs_" + db.Schema
	_, err := db.Pool.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'")
	must(t, err)
	t.Cleanup(func() {
		_, _ = db.Pool.Exec(t.Context(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	config, err := pgx.ParseConfig(os.Getenv(throwaway.URLVariable))
	must(t, err)
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable", config.Host, config.Port, config.User, config.Password, name)
}

// TestTheReceiversInOtherLanguagesVerify: they accept a request that this project signed, and refuse a changed one.
func TestTheReceiversInOtherLanguagesVerify(t *testing.T) {
	t.Parallel()
	for language, call := range map[string]struct{ program, script string }{
		"python":     {"python3", "import json, sys\nc = json.load(sys.stdin)\nprint(json.dumps([verify(c['key'], c['headers'], b.encode()) for b in c['bodies']]))\n"},
		"javascript": {"node", "const c = JSON.parse(require('node:fs').readFileSync(0));\nconsole.log(JSON.stringify(c.bodies.map((b) => verify(c.key, c.headers, Buffer.from(b)))));\n"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			if err := exec.CommandContext(t.Context(), call.program, "--version").Run(); err != nil {
				t.Skipf("%s is not installed: %v", call.program, err)
			}
			found := ofLanguage(t, language)
			if len(found) != 1 {
				t.Fatalf("%d blocks of %s, want 1", len(found), language)
			}
			key, err := webhook.Generate(webhook.HMAC)
			must(t, err)
			other, err := webhook.Generate(webhook.HMAC)
			must(t, err)
			const body = `{"ok":"é"}`
			now := time.Now()
			input, err := json.Marshal(map[string]any{"key": key.Reveal(), "bodies": []string{body, body + " "}, "headers": map[string]string{
				"webhook-id": "id", "webhook-timestamp": webhook.Timestamp(now), "webhook-signature": webhook.Keys{other, key}.Sign("id", now, []byte(body)),
			}})
			must(t, err)
			file := filepath.Join(t.TempDir(), "verify")
			must(t, os.WriteFile(file, []byte(found[0].text+"\n"+call.script), 0o600))
			cmd := exec.CommandContext(t.Context(), call.program, file)
			cmd.Stdin = strings.NewReader(string(input))
			out, err := cmd.CombinedOutput()
			if got := strings.ReplaceAll(strings.TrimSpace(string(out)), " ", ""); err != nil || got != "[true,false]" {
				t.Errorf("the receiver printed %s (%v), want [true,false]", out, err)
			}
		})
	}
}

// TestNoLinkOfThePagesIsBroken checks the links to files of the repository.
func TestNoLinkOfThePagesIsBroken(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	pages, err := filepath.Glob("*.md")
	must(t, err)
	for _, page := range append(pages, "../README.md", "../SECURITY.md", "../examples/README.md", "../monitoring/README.md") {
		text, err := os.ReadFile(page)
		must(t, err)
		for _, found := range link.FindAllSubmatch(text, -1) {
			to := string(found[1])
			if strings.Contains(to, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), to)); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
