package migrations_test

import (
	"io"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Comments and the texts of COMMENT ON may contain the word outbox without naming the schema.
var (
	comment     = regexp.MustCompile(`--[^\n]*`)
	commentText = regexp.MustCompile(`(?m)^(COMMENT ON [^']* IS) '(?:[^']|'')*';`)
	defaultName = regexp.MustCompile(`\boutbox\b`)
	twoForms    = regexp.MustCompile(`\boutbox\.[a-z]|\bCREATE SCHEMA IF NOT EXISTS outbox;`)
)

func TestTheFilesNameTheSchemaInTwoFormsOnly(t *testing.T) {
	t.Parallel()
	for name, sql := range sqlFiles(t, outbox.DefaultSchema) {
		for i, line := range strings.Split(withoutComments(sql), "\n") {
			if rest := twoForms.ReplaceAllString(line, ""); defaultName.MatchString(rest) {
				t.Errorf("%s:%d names the schema in a form that render does not replace: %s", name, i+1, line)
			}
		}
		if twoForms.MatchString(strings.Join(commentText.FindAllString(sql, -1), "")) && strings.Contains(sql, "IS 'outbox.") {
			t.Errorf("%s: render would change a comment's text, want it unchanged", name)
		}
	}
}

func TestARenderedFileDoesNotMentionTheDefaultSchema(t *testing.T) {
	t.Parallel()
	for name, sql := range sqlFiles(t, "another_one") {
		if line := defaultName.FindString(withoutComments(sql)); line != "" {
			t.Errorf("%s still contains %s, want the other schema's name", name, line)
		}
		if !strings.Contains(sql, "CREATE SCHEMA IF NOT EXISTS another_one;") {
			t.Errorf("%s does not create the schema", name)
		}
	}
}

func TestStatReturnsTheSizeOfTheRenderedText(t *testing.T) {
	t.Parallel()
	for name, sql := range sqlFiles(t, "another_one") {
		f, err := migrations.FS("another_one").Open(name)
		must(t, err)
		info, err := f.Stat()
		must(t, err)
		must(t, f.Close())
		if info.Size() != int64(len(sql)) {
			t.Errorf("%s: Stat says %d bytes, the text has %d", name, info.Size(), len(sql))
		}
	}
}

func TestFSPanicsForAnInvalidName(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("FS does not panic, want that it does")
		}
	}()
	migrations.FS("no schema; DROP")
}

func sqlFiles(t *testing.T, schema string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, fs.WalkDir(migrations.FS(schema), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := migrations.FS(schema).Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		text, err := io.ReadAll(f)
		files[path] = string(text)
		return err
	}))
	if len(files) == 0 {
		t.Fatal("FS has no files, want some")
	}
	return files
}

func withoutComments(sql string) string {
	return comment.ReplaceAllString(commentText.ReplaceAllString(sql, "$1 '';"), "")
}
