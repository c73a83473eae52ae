package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// target is a package whose code is changed.
type target struct {
	ImportPath string
	Dir        string
	GoFiles    []string

	TestGoFiles, XTestGoFiles []string

	root    string
	mutants []mutant
}

func goTool(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// load finds the places in the packages of the patterns.
func load(ctx context.Context, patterns []string) (targets []*target, err error) {
	root, err := goTool(ctx, "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	out, err := goTool(ctx, append([]string{"list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		t := &target{root: strings.TrimSpace(string(root))}
		if err := decoder.Decode(t); errors.Is(err, io.EOF) {
			return targets, nil
		} else if err != nil {
			return nil, err
		}
		for _, name := range t.GoFiles {
			found, err := mutantsOf(t, filepath.Join(t.Dir, name))
			if err != nil {
				return nil, err
			}
			t.mutants = append(t.mutants, found...)
		}
		targets = append(targets, t)
	}
}

// untested is a package that has no tests; "" when each has some.
func untested(targets []*target) string {
	for _, t := range targets {
		if len(t.TestGoFiles)+len(t.XTestGoFiles) == 0 {
			return t.ImportPath
		}
	}
	return ""
}

// outcome of a trial.
type outcome string

const (
	killed   outcome = "killed"
	hung     outcome = "hung"
	survived outcome = "SURVIVED"
	unbuilt  outcome = "unbuilt"
)

// trials run tests against mutants.
type trials struct {
	own       bool
	importers map[string][]string // by import path: the packages that import it, or whose tests do: they may notice, too
	limits    map[string]time.Duration
	dir       string
}

// apart are packages with long tests of whole programs, which do not run for a mutant.
var apart = []string{"/bench", "/examples/", "/internal/chaos", "/internal/overlap", "/internal/mutants"}

func newTrials(ctx context.Context, own bool) (*trials, error) {
	t := &trials{own: own, importers: map[string][]string{}, limits: map[string]time.Duration{}}
	out, err := goTool(ctx, "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}} {{join .TestImports \" \"}} {{join .XTestImports \" \"}}", "./...")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		names := strings.Fields(line)
		if slices.ContainsFunc(apart, func(part string) bool { return strings.Contains(names[0], part) }) {
			continue
		}
		slices.Sort(names[1:])
		for _, imported := range slices.Compact(names[1:]) {
			if imported != names[0] {
				t.importers[imported] = append(t.importers[imported], names[0])
			}
		}
	}
	t.dir, err = os.MkdirTemp("", "epilogue-mutants-")
	return t, err
}

func (t *trials) close() error { return os.RemoveAll(t.dir) }

// try runs the tests of the mutant's package, and then those of its importers, until one fails.
func (t *trials) try(ctx context.Context, m mutant) (outcome, error) {
	changed, overlay := filepath.Join(t.dir, "changed.go"), filepath.Join(t.dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {m.file: changed}})
	err = errors.Join(err, os.WriteFile(changed, m.text(), 0o600), os.WriteFile(overlay, text, 0o600))
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", os.DevNull, m.of.ImportPath)
	if build.Run() != nil {
		return unbuilt, ctx.Err()
	}
	packages := []string{m.of.ImportPath}
	if !t.own {
		packages = append(packages, t.importers[m.of.ImportPath]...)
	}
	for _, name := range packages {
		limit, err := t.limit(ctx, name)
		if err != nil {
			return "", err
		}
		passed, timedOut := runTests(ctx, name, overlay, limit)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case timedOut:
			return hung, nil
		case !passed:
			return killed, nil
		}
	}
	return survived, nil
}

// The time limit of tests with a mutant: a multiple of their time without it, and a minute.
const limitTimes, limitMore = 3, time.Minute

// limit runs the tests of a package without a mutant the first time that they are needed. They must pass.
func (t *trials) limit(ctx context.Context, name string) (time.Duration, error) {
	if limit, known := t.limits[name]; known {
		return limit, nil
	}
	began := time.Now()
	if passed, _ := runTests(ctx, name, "", 30*time.Minute); !passed {
		return 0, errors.Join(ctx.Err(), fmt.Errorf("the tests of %s fail without a mutant", name))
	}
	t.limits[name] = limitTimes*time.Since(began) + limitMore
	return t.limits[name], nil
}

// runTests runs the tests of one package once. The limit is enforced by the tests' own time-out, so that they can clean up,
// and by force a minute later.
func runTests(ctx context.Context, name, overlay string, limit time.Duration) (passed, timedOut bool) {
	ctx, cancel := context.WithTimeout(ctx, limit+time.Minute)
	defer cancel()
	args := []string{"test", "-count=1", "-vet=off", "-failfast", "-timeout", limit.String()}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, name)...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return err == nil, ctx.Err() != nil || bytes.Contains(out, []byte("panic: test timed out after"))
}
