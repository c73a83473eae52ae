//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// programVariable makes the test program behave like withpostgres, so that tests can send it signals.
const programVariable = "WITHPOSTGRES_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		os.Exit(run(os.Args[1:], os.Stderr))
	}
	os.Exit(m.Run())
}

// program prepares withpostgres to run without a terminal and with its own TMPDIR, which must be empty in the end.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	temp, err := os.MkdirTemp("/tmp", "withpostgres-test-")
	must(t, err)
	must(t, os.Chmod(temp, 0o711))
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(temp, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("TMPDIR still holds %v (%v), want it empty", left, err)
		}
		must(t, os.RemoveAll(temp))
	})
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), programVariable+"=1", throwaway.URLVariable+"=", "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func status(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestTheCommandGetsAServerAndWeExitWithItsStatus(t *testing.T) {
	cmd := program(t, "-fsync", "--", "sh", "-c", "echo $EPILOGUE_DATABASE_URL; cat; exit 7")
	cmd.Stdin = strings.NewReader("and the input")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if got := status(t, cmd.Run()); got != 7 {
		t.Errorf("exit status %d, want 7; it printed:\n%s", got, said.String())
	}
	if !strings.HasPrefix(out.String(), "postgres://postgres@127.0.0.1:") || !strings.HasSuffix(out.String(), "and the input") {
		t.Errorf("the command printed %q, want the URL of the server and the input", out.String())
	}
	if lines := strings.Count(said.String(), "\n"); lines != 2 {
		t.Errorf("withpostgres printed %d lines, want 2:\n%s", lines, said.String())
	}
}

func TestTheExitStatusShowsWhatWentWrong(t *testing.T) {
	server := startServer(t)
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"no command":           {[]string{"--"}, exitUsage},
		"an unknown flag":      {[]string{"-quick", "--", "true"}, exitUsage},
		"help":                 {[]string{"-help"}, 0},
		"no such program":      {[]string{"/no/such/program"}, exitNotStarted},
		"killed by a signal":   {[]string{"sh", "-c", "kill -KILL $$"}, exitSignalBase + 9},
		"flags of the command": {[]string{"--", "sh", "-c", "exit 5"}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := program(t, c.args...)
			cmd.Env = append(cmd.Env, throwaway.URLVariable+"="+server.URL())
			if got := status(t, cmd.Run()); got != c.want {
				t.Errorf("exit status %d, want %d", got, c.want)
			}
		})
	}
}

func TestANamedServerIsPassedOnAndLeftRunning(t *testing.T) {
	server := startServer(t)
	cmd := program(t, "--", "sh", "-c", "printf %s $EPILOGUE_DATABASE_URL")
	cmd.Env = append(cmd.Env, throwaway.URLVariable+"="+server.URL())
	out, err := cmd.Output()
	must(t, err)
	if string(out) != server.URL() {
		t.Errorf("the command got %q, want %q", out, server.URL())
	}
	conn, err := pgx.Connect(t.Context(), server.URL())
	must(t, err)
	must(t, conn.Close(t.Context()))
}

func TestSignalsGoToTheCommandAndTheServerIsRemovedAfterIt(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			cmd := program(t, "--", "sh", "-c", "trap 'exit 9' INT TERM HUP; echo here; while :; do sleep 0.05; done")
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			readLine(t, out)
			must(t, cmd.Process.Signal(signal))
			if got := status(t, cmd.Wait()); got != 9 {
				t.Errorf("exit status %d, want the command's 9", got)
			}
		})
	}
}

func TestASignalDuringTheStartEndsIt(t *testing.T) {
	cmd := program(t, "--", "true")
	said, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	rest := readLine(t, said) // it is starting the server
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	why, err := io.ReadAll(rest)
	must(t, err)
	if got := status(t, cmd.Wait()); got != exitNoServer || !strings.Contains(string(why), "stopped by a signal: terminated") {
		t.Errorf("exit status %d, want %d; it printed the following, want that a signal stopped it:\n%s", got, exitNoServer, why)
	}
}

func startServer(t *testing.T) *throwaway.Server {
	t.Helper()
	server, err := throwaway.Start(t.Context(), throwaway.Options{Own: true})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	return server
}

// readLine reads the first line and returns the rest.
func readLine(t *testing.T, r io.Reader) io.Reader {
	t.Helper()
	buffered := bufio.NewReader(r)
	_, err := buffered.ReadString('\n')
	must(t, err)
	return buffered
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
