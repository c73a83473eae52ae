package examples_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestTheExamplesInTheirOwnModulesWork: go test ./... does not run them. If their libraries cannot be downloaded, the test is
// skipped.
func TestTheExamplesInTheirOwnModulesWork(t *testing.T) {
	t.Parallel()
	modules, err := filepath.Glob("*/go.mod")
	if err != nil || len(modules) == 0 {
		t.Fatalf("found no modules (%v), want some", err)
	}
	for _, file := range modules {
		dir := filepath.Dir(file)
		t.Run(dir, func(t *testing.T) {
			run := func(args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), "go", args...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := run("mod", "download"); err != nil {
				t.Skipf("its libraries cannot be downloaded: %v: %s", err, out)
			}
			for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
				if out, err := run(args...); err != nil {
					t.Errorf("go %v: %v\n%s", args, err, out)
				}
			}
		})
	}
}
