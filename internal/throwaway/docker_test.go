//go:build unix

package throwaway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeDocker puts a program docker in PATH that records its arguments, and cannot run a container.
func fakeDocker(t *testing.T) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$@\" >>'" + log + "'\ntest \"$1\" != run || { echo no room; exit 125; }\n"
	must(t, os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		content, err := os.ReadFile(log)
		must(t, err)
		return string(content)
	}
}

func TestAContainerThatDoesNotStartIsRemoved(t *testing.T) {
	calls := fakeDocker(t)
	temp := ownTemp(t)
	_, err := startContainer(t.Context(), launchOptions{settings: []string{"-c", "fsync=off"}, env: []string{"TZ=UTC"}}, t.Logf)
	if err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("startContainer returns %v, want the error of docker", err)
	}
	mustBeEmpty(t, temp)
	run, remove, _ := strings.Cut(calls(), "\n")
	if !strings.Contains(run, "--env TZ=UTC "+dockerImage+" -c fsync=off") || !strings.HasPrefix(remove, "rm --force --volumes "+scratchPrefix) {
		t.Errorf("docker got these calls, want a run and the removal of the container:\n%s", calls())
	}
}

func TestTheSweepRemovesTheContainerOfAKilledOwner(t *testing.T) {
	calls := fakeDocker(t)
	dir := filepath.Join(t.TempDir(), scratchPrefix+"left")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, markerName), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, containerName), []byte("epilogue-postgres-1-2"), 0o600))
	if swept, err := sweepOne(t.Context(), dir); !swept || err != nil {
		t.Errorf("sweepOne returns %v, %v, want true", swept, err)
	}
	if got := calls(); got != "rm --force --volumes epilogue-postgres-1-2\n" {
		t.Errorf("docker got the calls %q, want the removal of the container", got)
	}
}
