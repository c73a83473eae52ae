package overlap_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// before is the last commit with tables of version 5, the version before the first one that this release adds. If you add
// the first migration of a release, name here the commit before it.
const before = "2dc7a1efab01577360ac4c726ac79081a416b7b8"

// programs are the paths of the programs of one version.
type programs struct{ worker, writer string }

// build makes the programs of both versions. It builds the older ones from the history of this repository.
func build(t *testing.T) (older, newer programs) {
	t.Helper()
	root := strings.TrimSpace(output(t, ".", "go", "list", "-m", "-f", "{{.Dir}}"))
	if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "cat-file", "-e", before+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("the history of this clone does not have the commit %s, so there is no older version to build (is it a shallow clone?): %s", before, out)
	}
	tree := t.TempDir()
	archive(t, root, tree)
	writer := filepath.Join("internal", "overlap", "writer")
	if err := os.RemoveAll(filepath.Join(tree, writer)); err != nil { // both versions get the writer of this one
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(tree, writer), os.DirFS(filepath.Join(root, writer))); err != nil {
		t.Fatal(err)
	}
	return compile(t, tree), compile(t, root)
}

func compile(t *testing.T, tree string) programs {
	t.Helper()
	dir := t.TempDir()
	p := programs{filepath.Join(dir, "outbox-worker"), filepath.Join(dir, "writer")}
	output(t, tree, "go", "build", "-buildvcs=false", "-o", p.worker, "./cmd/outbox-worker")
	output(t, tree, "go", "build", "-buildvcs=false", "-o", p.writer, "./internal/overlap/writer")
	return p
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%s %v: %v: %s", name, args, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// archive unpacks the tree of the older version.
func archive(t *testing.T, root, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "-C", root, "archive", before)
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unpack(tar.NewReader(pipe), to); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func unpack(from *tar.Reader, to string) error {
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("%s is outside the tree", header.Name)
		}
		path := filepath.Join(to, header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var text []byte
			if text, err = io.ReadAll(from); err == nil {
				err = os.WriteFile(path, text, 0o644)
			}
		}
		if err != nil {
			return err
		}
	}
}
